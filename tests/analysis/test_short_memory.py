"""Cards that are nearly full: a study runs, or says in one line what it needs; it never runs out of memory on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adapters import BlockModel, load
from adapters.errors import StrataError
from analysis.data.batches import Text
from analysis.engine.ablations import single_ablations
from analysis.engine.decoding import decode
from analysis.engine.plan import plan
from analysis.engine.row_budget import Prompt
from analysis.metrics.spans import SpanStudy
from analysis.metrics.study import ImportanceStudy
from analysis.runs.sweep_run import SweepStudy
from analysis.tasks.likelihoods import likelihoods
from analysis.tasks.requests import Request
from tests.reference.second_device import second_device

MB = 1 << 20
TEXT = Text(corpus="texts", documents=2, window=100)
ENOUGH = 256


def _sweep(model: BlockModel, out: Path) -> None:
    SweepStudy.of(model, single_ablations(model.spec, ["blocks"]), TEXT).run(out)


def _tasks(model: BlockModel, out: Path) -> None:
    requests = [Request(tuple(range(80 + n)), (4, n)) for n in range(4)]
    likelihoods(model, plan(model.spec, single_ablations(model.spec, ["blocks"])), requests)


def _texts(model: BlockModel, out: Path) -> None:
    prompts = [Prompt(tuple(range(n, n + 90)), 4) for n in range(4)]
    assert list(decode(model, plan(model.spec, single_ablations(model.spec, ["blocks"])), prompts))


STUDIES: dict[str, Callable[[BlockModel, Path], object]] = {
    "sweep": _sweep,
    "importance": lambda model, out: ImportanceStudy(model, TEXT, ("bi",), ("blocks", "heads")).run(out),
    "taylor": lambda model, out: ImportanceStudy(model, TEXT, ("taylor",), ("blocks", "heads")).run(out),
    "spans": lambda model, out: SpanStudy(model, TEXT).run(out),
    "tasks": _tasks,
    "texts": _texts,
}


@pytest.mark.parametrize("free", [8, 10, 13, 18, ENOUGH])
@pytest.mark.parametrize("study", STUDIES)
def test_a_study_fits_or_is_refused(study: str, free: int, tmp_path: Path) -> None:
    refused = ""
    with second_device(free=free * MB):
        try:
            STUDIES[study](load("zoo-llama-0", dtype="float32"), tmp_path / "run")
        except StrataError as error:
            refused = str(error)
    assert not refused or (free < ENOUGH and " MB" in refused), refused
