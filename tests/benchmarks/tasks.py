"""A block sweep of SmolLM2 on benchmarks against lm-evaluation-harness, which evaluates one ablated model after the other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pandas as pd
from torch import Tensor
from transformers import AutoTokenizer, LlamaForCausalLM

from adapters import NONE, Ablation, BlockModel
from adapters.errors import StrataError
from analysis.ablation import singles
from analysis.tasks import load_tasks
from analysis.tasks.offline import OFFLINE
from analysis.tasks.study import TaskStudy
from tests.benchmarks.sweeps import BATCHES
from tests.benchmarks.timing import best, load_average
from tests.reference.naive import without

TITLE = "Benchmarks of lm-evaluation-harness"
TRIED = 4  # questions of each task that the harness's batch is chosen on


class Case(NamedTuple):
    name: str
    tasks: tuple[str, ...]
    shots: int
    limit: int  # questions of each task
    data: Path | None


def cases() -> list[Case]:
    """On real files beside the project; else MMLU comes from the hub and PIQA from the offline texts."""
    from tests.shared_data import FOLDER  # needs pytest, which a machine for timing may lack

    files = FOLDER / "bench" if (FOLDER / "bench").is_dir() else None
    return [Case("MMLU, 5 examples", ("mmlu_anatomy", "mmlu_philosophy"), 5, 50, files), Case("PIQA", ("piqa",), 0, 100, files or OFFLINE)]


def section(model: BlockModel, foreign: LlamaForCausalLM, ids: Tensor, limit: int | None = None) -> str:
    """Markdown. `limit` asks fewer questions, to see whether it runs."""
    if model.tokenizer is None:
        return f"\n## {TITLE}\n\nNot measured: random weights read no text.\n"
    try:
        table = pd.DataFrame([_row(case if limit is None else case._replace(limit=limit), model, foreign) for case in cases()])
    except StrataError as error:
        return f"\n## {TITLE}\n\nNot measured: {error}\n"
    n = len(singles(model.spec, ["blocks"]))
    return f"""
## {TITLE}

All {n} blocks of SmolLM2 are taken out in turn, and the dense model is scored too. The harness (`HFLM` on Hugging Face's model,
from which the block is deleted) evaluates one model after the other; its figure is {n + 1} times the mean of the dense model
and of one without a block, for each ablated model costs the same. Its batch is the best of {", ".join(map(str, BATCHES))}
on {TRIED} questions of each task. Models and questions are loaded once on both sides; requests, tokens and metrics count on both
sides, intervals on ours. One round.

{table.to_markdown(index=False)}
"""


def _row(case: Case, model: BlockModel, foreign: LlamaForCausalLM) -> dict[str, str]:
    options: dict[str, Any] = {"shots": case.shots, "data": case.data}
    ours = [load_tasks(name, limit=case.limit, **options) for name in case.tasks]
    theirs = [load_tasks(name, limit=1, **options).tasks[name] for name in case.tasks]
    tokenizer = AutoTokenizer.from_pretrained(foreign.name_or_path)
    removed = Ablation(blocks=frozenset([len(model.blocks) // 2]))
    models = [without(foreign, ablation) for ablation in (NONE, removed)]

    def sweep() -> None:
        for tasks in ours:
            with TemporaryDirectory() as folder:
                TaskStudy.of(model, singles(model.spec, ["blocks"]), tasks).run(Path(folder) / "run")

    def harness(batch: int, limit: int) -> Callable[[], object]:
        return lambda: [_evaluate(one, tokenizer, theirs, batch, limit, case.shots) for one in models]

    tried = best({str(batch): harness(batch, min(TRIED, case.limit)) for batch in BATCHES}, rounds=1)
    batch = min(BATCHES, key=lambda b: tried[str(b)])
    times = best({"sweep": sweep, "harness": harness(batch, case.limit)}, rounds=1)
    n = len(model.blocks) + 1
    return {
        "benchmark": f"{case.name}, {len(case.tasks) * case.limit} questions",
        "sweep, s": f"{times['sweep']:.1f}",
        f"harness, {n} models, s": f"{times['harness'] / 2 * n:.1f}",
        "times faster": f"{times['harness'] / 2 * n / times['sweep']:.1f}",
        "raw seconds of the harness, 2 models": f"batch {batch}: {times['harness']:.1f}",
        "load": load_average(),
    }


def _evaluate(model: LlamaForCausalLM, tokenizer: Any, tasks: list[Any], batch: int, limit: int, shots: int) -> object:
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    with redirect_stderr(StringIO()):  # its progress bars
        lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch)
        return lm_eval.simple_evaluate(lm, tasks=tasks, num_fewshot=shots, limit=limit, bootstrap_iters=0)
