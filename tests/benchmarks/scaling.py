"""Two workers of one thread each on one sweep, against one worker, and against two sweeps that know nothing of each other."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from functools import partial
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from adapters import BlockModel
from analysis.data.batches import Text
from analysis.runs.jobs import Job
from analysis.runs.scoring import map_documents
from analysis.runs.shards import OnShard, Shard
from reports.cli import studies
from tests.benchmarks.timing import load_average

TITLE = "Scaling"
DOCUMENTS, WINDOW = 12, 128
ROUNDS = 2


def section(model: BlockModel, foreign: LlamaForCausalLM, ids: Tensor, documents: int = DOCUMENTS) -> str:
    """Markdown; of models with a tokenizer, which are read again from their files."""
    if model.origin is None or model.tokenizer is None:
        return f"## {TITLE}\n\nNot timed: {model.spec.name} reads no text."
    text = Text(window=WINDOW, documents=documents)
    make = partial(studies.sweep, kinds=["blocks"], edits=["zero"], text=text, kl=False, memory=None)
    job = Job(model.origin[0], "cpu", "float32", model.origin[1], make)
    study = job.make(model)
    units = len(study.scoring().pieces(study.scoring().whole, range(documents), 2))
    before = load_average()
    times: dict[str, list[float]] = {"one": [], "independent": [], "two": []}
    for _ in range(ROUNDS):
        times["one"].append(_seconds(job, [(Shard(0, 1), "one")]))
        times["independent"].append(_seconds(job, [(Shard(0, 1), "first"), (Shard(0, 1), "second")]))
        times["two"].append(_seconds(job, [(Shard(0, 2), "both"), (Shard(1, 2), "both")]))
    one, independent, two = (min(found) for found in times.values())
    longest = -(-units // 2)  # units of the worker that has more
    rows = [
        ("one worker", f"{documents / one:.3g}", ""),
        ("two independent sweeps", f"{2 * documents / independent:.3g}", ""),
        ("two workers on one sweep", f"{documents / two:.3g}", f"{independent / 2 / two:.2f}"),
    ]
    table = pd.DataFrame(rows, columns=["", "documents a second", "of two independent sweeps"])
    return f"""
## {TITLE}

A block sweep of {documents} documents in {units} units, one thread a worker, from loaded models to the last record on the disk; best of
{ROUNDS} rounds. Load average before: {before}, behind: {load_average()}.

{table.to_markdown(index=False)}

Sharing a sweep takes {1000 * (two / longest - independent / units):.0f} ms for each unit of {1000 * independent / units:.0f} ms beyond
what the unit takes in an independent sweep.
"""


def _seconds(job: Job, work: Sequence[tuple[Shard, str]]) -> float:
    """From the moment at which all workers have their model until the last one is done."""
    context = multiprocessing.get_context("spawn")
    ready, told = context.Barrier(len(work)), context.Queue()
    with TemporaryDirectory() as folder:
        workers = [context.Process(target=_work, args=(job, shard, Path(folder) / name, ready, told)) for shard, name in work]
        for worker in workers:
            worker.start()
        found = [told.get(timeout=3600) for _ in work]
        for worker in workers:
            worker.join()
    return max(found)


def _work(job: Job, shard: Shard, folder: Path, ready: Barrier, told: Queue[float]) -> None:
    torch.set_num_threads(1)
    study = job.study()
    ready.wait()
    start = time.perf_counter()
    map_documents(study.open(folder), study.scoring(), OnShard(shard, []))
    told.put(time.perf_counter() - start)
