"""The comparison of methods, from a small model and a text to tables and words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adapters import BlockModel, load
from analysis.budgets import Budget
from analysis.corpora.text import batches
from analysis.figures import bounded
from analysis.methods import bench, study
from analysis.methods.method import solve
from analysis.methods.study import Compared, compare_methods, targets_of
from analysis.methods.table import METHODS
from analysis.setting import Setting
from analysis.statistics import ratio
from tests.analysis.methods.deep import deep
from tests.reference.models import save_reader

BLOCKS = 8
SIZES = Budget(24, 14, None)
FEW = {name: METHODS[name] for name in ("shortgpt", "laco", "linear")}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> BlockModel:
    folder = tmp_path_factory.mktemp("models") / "reader"
    folder.mkdir()
    save_reader(folder, num_hidden_layers=BLOCKS)
    return load(folder, device="cpu")


@pytest.fixture(scope="module")
def found(model: BlockModel, prose: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Compared, Path]:
    out = tmp_path_factory.mktemp("runs")
    return compare_methods(model, Setting(SIZES, out, str(prose)), methods=FEW), out


def test_losses_are_those_of_the_pruned_models(found: tuple[Compared, Path], model: BlockModel) -> None:
    result, _ = found
    read = list(batches(result.calibration.windows(model), model))
    assert result.targets == (1 / 8, 2 / 8, 3 / 8, 4 / 8)
    assert len(result.reached) == len(FEW) * 4
    for point in (p for p in result.reached if p.target == 0.25):
        solved = solve(METHODS[point.method], model, read, 0.25)
        assert (point.knob, point.size) == (solved.knob, solved.size)
        nll = []
        for batch in batches(result.text.windows(model), model):
            for row, n in zip(batch.ids, batch.lengths.tolist(), strict=True):
                logits = solved.model.run(row[None, :n])[0].double().log_softmax(-1)
                nll.append(-float(logits[:-1].gather(-1, row[1:n, None]).sum()))
        assert point.nll == pytest.approx(np.array(nll), rel=1e-5)
        assert result.rise(point) == ratio(point.nll - result.nll, result.tokens)


def test_a_second_time_nothing_is_pruned(
    found: tuple[Compared, Path], model: BlockModel, prose: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, out = found

    def never(*arguments: object) -> None:
        raise AssertionError("it is there already")

    monkeypatch.setattr(bench, "solve", never)
    again = compare_methods(model, Setting(SIZES, out, str(prose)), methods=FEW)
    assert again.table.equals(result.table)
    assert again.conclusion == result.conclusion


def test_tables(found: tuple[Compared, Path]) -> None:
    result, _ = found
    assert list(result.rises["method"]) == ["ShortGPT", "LaCo", "linear replacement"]
    assert list(result.rises.columns[1:]) == ["12.5\u00a0%", "25.0\u00a0%", "37.5\u00a0%", "50.0\u00a0%"]
    assert (result.rises != "").all(axis=None)
    dense = result.table[result.table["block parameters"] == 0]
    assert len(dense) == len(FEW)
    assert dense["value"].eq(0).all()
    assert (result.table["all parameters"] <= result.table["block parameters"]).all()
    assert len(result.sizes) == 12
    assert result.missed == "Every method reached every size."
    assert result.paper.empty
    assert "no row of" in result.compared_with
    assert result.scores.empty


def test_beside_the_paper(found: tuple[Compared, Path]) -> None:
    result, _ = found
    named = result.model.with_blocks(result.model.blocks)
    named.spec = replace(named.spec, name="Llama-2-7b-hf")
    result = replace(result, model=named)
    table = result.paper.set_index("method")
    assert list(table.index) == ["Dense", "LLM-Pruner", "SliceGPT", "LaCo", "ShortGPT"]
    assert table.loc["LaCo", "marked"] == ""
    assert table.loc["ShortGPT", "marked"] == "the average is not the mean of the scores"
    assert table.loc["ShortGPT", "retained by the means"] == "86.31"
    beside = result.beside.set_index("method")
    (ours,) = (p for p in result.at_quarter if p.method == "laco")
    assert beside.loc["LaCo", "rise in loss here"] == bounded(result.rise(ours))
    assert beside.loc["SliceGPT", "rise in loss here"] == "", "it was not asked for"
    scored = replace(result, tasks=("mmlu",), right=(np.ones(20),), points=tuple(replace(p, right=(np.ones(20),)) for p in result.points))
    assert scored.scores["mmlu"].tolist()[-5:] == ["45.39", "23.33", "28.92", "26.45", "43.96"]
    assert "LaCo, printed (v1)" in set(scored.scores["method"])


def test_what_is_not_reached_is_said(model: BlockModel, prose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "targets_of", lambda model: (0.3, 0.25))
    few = {"linear": METHODS["linear"]}
    result = compare_methods(model, Setting(SIZES, tmp_path, str(prose)), methods=few)
    assert [p.target for p in result.reached] == [0.25]
    assert "linear replacement does not come within" in result.missed
    assert result.missed.startswith("Not at 30.0")


def test_targets_are_numbers_of_blocks() -> None:
    six = targets_of(deep("llama"))
    assert six == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    assert targets_of(deep("rwkv-7"))[0] == pytest.approx(1 / 6, abs=0.015), "its first block is smaller"


def test_families() -> None:
    assert study.known(deep("rwkv-4"), METHODS) == ["shortgpt", "one_shot", "laco", "laco_eq1", "linear"]
    assert study.known(deep("llama"), METHODS) == list(METHODS)


def test_every_method(model: BlockModel, prose: Path, tmp_path: Path) -> None:
    """All sizes are met, or said to be out of reach."""
    result = compare_methods(model, Setting(SIZES, tmp_path, str(prose)))
    assert {p.method for p in result.points} == set(METHODS)
    for p in result.points:
        assert "does not come within" in p.why if p.size is None else abs(p.size.block_params - p.target) <= 0.015
    assert np.isfinite([p.nll.sum() for p in result.reached if p.nll is not None]).all()
