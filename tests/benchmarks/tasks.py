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

from adapters import Ablation, BlockModel
from adapters.errors import StrataError
from analysis.engine.ablations import single_ablations
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
    n = len(single_ablations(model.spec, ["blocks"]))
    return f"""
## {TITLE}

All {n} blocks of SmolLM2 are taken out in turn, and the dense model is scored too. The harness (`HFLM` on Hugging Face's model,
from which the block is deleted) evaluates one model after the other; its figure is the dense model's time and {n} times that of
the model without its middle block, for each ablated model costs the same. Its batch is the best of {", ".join(map(str, BATCHES))}
on {TRIED} questions of each task. Models and questions are loaded once on both sides; requests, tokens and metrics count on both
sides, intervals on ours. One round.

{table.to_markdown(index=False)}
"""


def _row(case: Case, model: BlockModel, foreign: LlamaForCausalLM) -> dict[str, str]:
    options: dict[str, Any] = {"shots": case.shots, "data": case.data}
    ours = [load_tasks(name, limit=case.limit, **options) for name in case.tasks]
    theirs = {name: load_tasks(name, limit=1, **options).tasks[name] for name in case.tasks}
    removed = Ablation(blocks=frozenset([len(model.blocks) // 2]))
    models = {"dense": foreign, "ablated": without(foreign, removed)}

    def sweep() -> None:
        for tasks in ours:
            with TemporaryDirectory() as folder:
                TaskStudy.of(model, single_ablations(model.spec, ["blocks"]), tasks).run(Path(folder) / "run")

    harness = {(name, batch): _harness(one, batch, theirs) for name, one in models.items() for batch in BATCHES}
    tried = best({str(batch): lambda b=batch: harness["dense", b](min(TRIED, case.limit)) for batch in BATCHES}, rounds=1)
    batch = min(BATCHES, key=lambda b: tried[str(b)])
    contenders: dict[str, Callable[[], object]] = {name: lambda n=name: harness[n, batch](case.limit) for name in models}
    times = best(contenders | {"sweep": sweep}, rounds=1)
    seconds = times["dense"] + len(model.blocks) * times["ablated"]
    return {
        "benchmark": f"{case.name}, {len(case.tasks) * case.limit} questions",
        "sweep, s": f"{times['sweep']:.1f}",
        f"harness, {len(model.blocks) + 1} models, s": f"{seconds:.1f}",
        "times faster": f"{seconds / times['sweep']:.1f}",
        "raw seconds of the harness": f"dense {times['dense']:.1f}, ablated {times['ablated']:.1f}, batch {batch}",
        "load": load_average(),
    }


def _harness(model: LlamaForCausalLM, batch: int, tasks: dict[str, Any]) -> Callable[[int], object]:
    """Evaluates that many questions of each task; `evaluate`, since `simple_evaluate` takes seconds to look at the machine."""
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    tokenizer = AutoTokenizer.from_pretrained(model.name_or_path)
    first = None if tokenizer.eos_token or tokenizer.bos_token else 0  # a tiny model of the tests has neither
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch, prefix_token_id=first)

    def run(limit: int) -> object:
        with redirect_stderr(StringIO()):  # its progress bars
            return evaluate(lm, {"tasks": tasks, "groups": {}, "group_map": {}}, limit=limit, bootstrap_iters=0)

    return run
