"""The comparison of methods, from a small model and a text to tables and words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters import BlockModel, StrataError, load
from analysis.data.batches import batches
from analysis.display.format import bounded
from analysis.methods import bench, study
from analysis.methods.accuracy import Answers, answers
from analysis.methods.method import solve
from analysis.methods.study import LIMITS, Methods, compare_methods, targets_of
from analysis.methods.table import METHODS
from analysis.runs.budgets import Budget
from analysis.runs.settings import RunConfig
from analysis.stats.intervals import ratio
from analysis.tasks import TaskSet, load_tasks
from analysis.tasks.benchmark import benchmarks
from tests.analysis.methods.deep import deep
from tests.analysis.tasks.makers import table_1
from tests.reference.models import save_reader

BLOCKS = 8
SIZES = Budget(24, 14, None)
FEW = ("shortgpt", "laco", "linear")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> BlockModel:
    folder = tmp_path_factory.mktemp("models") / "reader"
    folder.mkdir()
    save_reader(folder, num_hidden_layers=BLOCKS)
    return load(folder, device="cpu")


@pytest.fixture(scope="module")
def found(model: BlockModel, prose: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Methods, Path]:
    out = tmp_path_factory.mktemp("runs")
    return compare_methods(model, RunConfig(SIZES, out, str(prose)), methods=FEW), out


def test_losses_are_those_of_the_pruned_models(found: tuple[Methods, Path], model: BlockModel) -> None:
    result, _ = found
    read = list(batches(result.calibration.windows(model), model))
    assert result.targets == (1 / 8, 2 / 8, 3 / 8, 4 / 8)
    assert len(result.reached) == len(FEW) * 4
    for point in (p for p in result.reached if p.target == 0.25):
        solved = solve(METHODS[point.method], model, read, 0.25)
        assert (point.level, point.size) == (solved.level, solved.size)
        nll = []
        for batch in batches(result.text.windows(model), model):
            for row, n in zip(batch.ids, batch.lengths.tolist(), strict=True):
                logits = solved.model.run(row[None, :n])[0].double().log_softmax(-1)
                nll.append(-float(logits[:-1].gather(-1, row[1:n, None]).sum()))
        assert point.nll == pytest.approx(np.array(nll), rel=1e-5)
        assert result.rise(point) == ratio(point.nll - result.nll, result.tokens)


def test_a_second_time_nothing_is_pruned(
    found: tuple[Methods, Path], model: BlockModel, prose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With tasks too, unless others are asked for."""
    result, out = found
    table_1(tmp_path, 14)
    piqa, fewer, coqa = (load_tasks(name, limit=n, data=tmp_path) for name, n in (("piqa", 14), ("piqa", 13), ("coqa_loss", 14)))
    config = RunConfig(SIZES, out, str(prose))
    asked = compare_methods(model, config, methods=FEW, tasks=[piqa, coqa])

    def never(*arguments: object) -> None:
        raise AssertionError("it is there already")

    monkeypatch.setattr(bench, "solve", never)
    for tasks in ([], [coqa, piqa]):
        again = compare_methods(model, config, methods=FEW, tasks=tasks)
        assert again.table.equals(result.table)
        assert again.conclusion == result.conclusion
    for p, q in zip(asked.points, again.points, strict=True):
        assert [a.chance for a in q.answers] == [a.chance for a in p.answers[::-1]]
        assert [a.interval for a in q.answers] == [a.interval for a in p.answers[::-1]]
    with pytest.raises(AssertionError, match="it is there already"):
        compare_methods(model, config, methods=FEW, tasks=[fewer])


@pytest.mark.parametrize(
    ("name", "damaged", "says"),
    [
        ("size.json", {"block_params": 7.0}, "'block_params': Input should be less than or equal to 1"),
        ("size.json", {"level": float("nan")}, "NaN is not a JSON number"),
        ("size.json", {"note": ["a"]}, "'note': Input should be a valid string"),
        ("answers.json", {"values": [1.0]}, "its answers on piqa are not of 14 questions"),
        ("answers.json", {"counts": [0.0] * 14}, "Input should be greater than 0"),
        ("answers.json", {"chance": 2.0}, "Input should be less than or equal to 1"),
        ("answers.json", None, "Input should be"),
    ],
)
def test_what_is_kept_of_a_point_is_checked(
    name: str, damaged: dict | None, says: str, model: BlockModel, prose: Path, tmp_path: Path
) -> None:
    table_1(tmp_path, 14)
    piqa, setting = load_tasks("piqa", limit=14, data=tmp_path), RunConfig(SIZES, tmp_path / "runs", str(prose))
    text = setting.text(2)
    made = bench.MethodRuns(model, text, text.calibration(model), [piqa], setting.out)
    point = made.point("shortgpt", 0.25)
    (path,) = setting.out.glob(f"*/{name}")
    kept = json.loads(path.read_text())
    (key,) = kept if name == "answers.json" else [None]
    path.write_text(json.dumps(kept | damaged if damaged and key is None else {key: kept[key] | damaged if damaged else [1]}))
    with pytest.raises(StrataError, match=f"{name} cannot be used: .*{says}.*; remove it to run the method again"):
        made.point("shortgpt", 0.25)
    path.unlink()
    again = made.point("shortgpt", 0.25)
    assert (again.level, again.size, again.nll.tolist()) == (point.level, point.size, point.nll.tolist())
    assert [a.values.tolist() for a in again.answers] == [a.values.tolist() for a in point.answers]


def test_tables(found: tuple[Methods, Path]) -> None:
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
    assert result.sizes["level"].str.contains("threshold").tolist() == [title == "LaCo" for title in result.sizes["method"]]
    facts = result.facts.set_index("")["measured"]
    assert facts["Unpruned loss"] == f"{bounded(ratio(result.nll, result.tokens))} nats per token"
    assert "within 1.5 points where met" in facts["Sizes"]
    assert result.paper.empty
    assert "no row of" in result.compared_with
    assert result.scores.table.empty


def test_beside_the_paper(found: tuple[Methods, Path]) -> None:
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
    assert not [name for name in beside if "retained" in name], "no task is in both"


def test_printed_means_are_over_the_tasks_that_are_here(found: tuple[Methods, Path]) -> None:
    """Of 20 questions each dense answer is right, and pruned ones are right in half of PIQA, in a fifth of ARC, all of MMLU."""
    result, _ = found
    named = result.model.with_blocks(result.model.blocks)
    named.spec = replace(named.spec, name="Llama-2-7b-hf")
    ones, tenth = np.ones(20), np.arange(20) % 10
    dense = (Answers(ones, ones, 0.25), Answers(ones, ones, 0.5), Answers(ones, ones, 0.25), Answers(3 * ones, 2 * ones, None))
    pruned = (dense[0], Answers((tenth < 5) + 0.0, ones, 0.5), Answers((tenth < 2) + 0.0, ones, 0.25), dense[3])
    points = tuple(replace(p, answers=pruned) for p in result.points)
    scored = replace(result, model=named, tasks=("mmlu", "piqa", "arc_easy", "coqa_loss"), answers=dense, points=points)
    table = scored.scores.table.set_index("method")
    assert table.loc["LaCo, printed (v1)"].tolist()[1:5] == ["26.45", "69.80", "", ""], "CoQA is of generated text"
    over = (26.45 + 69.8) / 2, 100 * (26.45 + 69.8) / (45.39 + 77.91)
    assert table.loc["LaCo, printed (v1)"].tolist()[5:] == [f"{x:.2f} (over 2 of 3)" for x in over]
    assert table.loc["unpruned", "coqa\\_loss"] == "1.50"
    assert table.loc["unpruned", "mean"] == "100", "a loss has no part in it, and of answers that are all right no interval is known"
    assert table.loc["LaCo", "retained"].iloc[0].startswith(f"{100 * (1 + 0.5 + 0.2) / 3:.1f} (")
    beside = scored.beside.set_index("method")
    assert beside.loc["LaCo", "retained, printed (over 2 of 13 tasks)"] == f"{over[1]:.2f}"
    assert beside.loc["LaCo", "retained here (the same 2)"].startswith("75.0 ("), "ARC, which the paper lacks, has no part in it"
    assert "coqa\\_loss: loss of the right answer" in scored.scores.caption
    assert "acc of lm_eval" in scored.scores.caption
    assert "CoQA and XSum" in scored.scores.caption


def test_accuracy_by_method_is_drawn(found: tuple[Methods, Path]) -> None:
    """At the paper's size, with intervals, beside the dense model and guessing (Figure 1)."""
    result, _ = found
    half = Answers(np.arange(20) % 2 + 0.0, np.ones(20), 0.25)
    points = tuple(replace(p, answers=(half, half, half, half)) for p in result.points)
    tasks = ("mmlu", "piqa", "boolq", "wsc")
    scores = replace(result, tasks=tasks, answers=(half, half, half, half._replace(chance=0.5)), points=points).scores
    assert scores.accuracies["method"].unique().tolist() == ["unpruned", "ShortGPT", "LaCo", "linear replacement"]
    assert (scores.accuracies["ci_low"] < 0.5).all()
    figure = scores.figure
    drawn = [ax for ax in figure.axes if ax.axison]
    assert [ax.get_title() for ax in drawn] == list(tasks)
    assert [float(ax.lines[-1].get_xdata()[0]) for ax in drawn] == [0.25, 0.25, 0.25, 0.5], "the dotted line is guessing"
    assert scores.table.loc[1, "mmlu"] == "50.0", "four tasks leave no room for intervals"


def test_accuracy_is_that_of_other_notebooks_and_refusals_come_first(model: BlockModel, prose: Path, tmp_path: Path) -> None:
    table_1(tmp_path, 14)
    piqa, coqa = (load_tasks(name, limit=14, data=tmp_path) for name in ("piqa", "coqa_loss"))
    config = RunConfig(SIZES, tmp_path / "runs", str(prose))
    both = TaskSet("both", piqa.tasks | coqa.tasks, {}, piqa.items + coqa.items)
    bare = TaskSet("bare", {"piqa": WithoutAccuracy(piqa.tasks["piqa"])}, {}, piqa.items)
    for tasks, says in ((both, "both has tasks with options and tasks without"), (bare, "piqa has options and no acc in lm_eval")):
        with pytest.raises(StrataError, match=says):
            compare_methods(model, config, tasks=[tasks], methods=FEW)
    assert not (tmp_path / "runs").exists()
    for tasks, metric in ((piqa, "acc"), (coqa, "nll")):
        (shown,) = benchmarks(model, [tasks], [], config)
        found = answers(model, tasks, tmp_path / "answers" / tasks.name)
        assert found.interval == pytest.approx(shown.dense(metric))
        assert found.chance == (shown.chance or {"accuracy": None})["accuracy"]


class WithoutAccuracy:
    """A task of lm_eval that gives acc_norm alone."""

    def __init__(self, task: Any) -> None:
        self.task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def process_results(self, *arguments: Any) -> dict:
        return {"acc_norm": self.task.process_results(*arguments)["acc_norm"]}


def test_what_is_not_reached_is_said(model: BlockModel, prose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "targets_of", lambda model: (0.3, 0.25))
    result = compare_methods(model, RunConfig(SIZES, tmp_path, str(prose)), methods=["linear"])
    assert [p.target for p in result.reached] == [0.25]
    assert "linear replacement does not come within" in result.missed
    assert result.missed.startswith("Not reached, 30.0")
    more = compare_methods(model, RunConfig(SIZES, tmp_path, str(prose)), methods=["shortgpt", "linear", "slicegpt"])
    first, paper_n_removed, stands = more.conclusion.split(". ")
    assert first.endswith("removed, no method was measured (not measured: ShortGPT, linear replacement and SliceGPT)")
    assert paper_n_removed.endswith("(not measured: SliceGPT)"), "whoever is best of the others"
    assert stands.startswith("At the paper's size, ShortGPT ")
    assert stands.endswith("linear replacement (not measured: SliceGPT).")


def test_a_model_with_quantised_weights_loses_whole_blocks_alone(model: BlockModel, prose: Path, tmp_path: Path) -> None:
    quantised = model.with_blocks(model.blocks)
    quantised.spec = replace(model.spec, quantised="4-bit weights")
    result = compare_methods(quantised, RunConfig(SIZES, tmp_path, str(prose)))
    assert {p.method for p in result.reached} == {p.method for p in result.points} == {"shortgpt", "one_shot"}
    said = result.missed.splitlines()[-1].replace("\\", "")
    assert said.startswith("Not available for quantised weights (4-bit weights), which they would use as floats: LaCo, ")


def test_errors_that_are_not_about_sizes_are_raised(
    model: BlockModel, prose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(dense: BlockModel, read: list, level: float) -> BlockModel:
        return METHODS["slicegpt"].prune(dense, [], 0.25)  # without any text

    monkeypatch.setitem(bench.METHODS, "linear", replace(METHODS["linear"], prune=short))
    with pytest.raises(StrataError, match="0 calibration tokens do not show 48 axes"):
        compare_methods(model, RunConfig(SIZES, tmp_path, str(prose)), methods=["linear"])


def test_targets_are_numbers_of_blocks() -> None:
    six = targets_of(deep("llama"))
    assert six == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    assert targets_of(deep("rwkv-7"))[0] == pytest.approx(1 / 6, abs=0.015), "its first block is smaller"


def test_families() -> None:
    assert study.known(deep("rwkv-4"), tuple(METHODS)) == ["shortgpt", "one_shot", "laco", "linear"]
    twins = "Identical to LaCo where it merges two blocks into one: LaCo (its equation)."
    assert study.skipped(deep("rwkv-4"), tuple(METHODS)) == (
        twins,
        "Not available for rwkv (it takes RMSNorm alone, in front of attention and of a gated ffn behind it): SliceGPT.",
        "Not available for rwkv (it takes attention whose heads work one by one, and no experts): "
        "LLM-Pruner, LLM-Pruner (its published code).",
    )
    wide = deep("llama").with_blocks(deep("llama").blocks * 4)
    assert study.known(wide, tuple(METHODS)) == list(METHODS)
    assert study.skipped(wide, tuple(METHODS)) == ()


def test_what_each_method_reads_is_said() -> None:
    assert "LaCo reads the first 5 documents, at most 128 tokens of each, one-shot removal the first 16 documents" in LIMITS
    assert "by up to 1.5 points." in LIMITS


def test_every_method(model: BlockModel, prose: Path, tmp_path: Path) -> None:
    """All sizes are met, or said to be out of reach."""
    result = compare_methods(model, RunConfig(SIZES, tmp_path, str(prose)))
    assert {p.method for p in result.points} == set(METHODS) - {"laco_eq1"}
    for p in result.points:
        assert "does not come within" in p.why if p.size is None else abs(p.size.block_params - p.target) <= 0.015
    assert np.isfinite([p.nll.sum() for p in result.reached if p.nll is not None]).all()
