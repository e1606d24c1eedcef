"""Benchmarks along removal paths are those of models from which the sets were deleted, and say no more than chance allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from adapters.ablation import NONE, Ablation
from analysis.display.format import bounded
from analysis.pruning.benchmarks import TaskCurves, along_paths, kinds_of
from analysis.pruning.results import RemovalResult
from analysis.pruning.study import removal
from analysis.removal.paths import size
from analysis.runs.budgets import BUDGETS, Budget
from analysis.runs.settings import RunConfig
from analysis.tasks import load_tasks
from analysis.tasks.benchmark import by_task
from analysis.tasks.study import TaskStudy, by_ablation, task_table
from tests.analysis.tasks.makers import table_1
from tests.analysis.tasks.oracle import twin


@pytest.fixture(scope="module")
def removed(tmp_path_factory: pytest.TempPathFactory, prose: Path) -> RemovalResult:
    folder = tmp_path_factory.mktemp("removed")
    (folder / "reader").mkdir()
    model = twin(folder / "reader", num_hidden_layers=4).model
    return removal(model, RunConfig(Budget(24, 14, None), folder / "runs", str(prose)))


@pytest.fixture(scope="module")
def found(removed: RemovalResult, tmp_path_factory: pytest.TempPathFactory) -> tuple[TaskCurves, TaskCurves, Path]:
    folder = tmp_path_factory.mktemp("found")
    table_1(folder, 14)
    tasks = [load_tasks(name, limit=14, data=folder) for name in ("piqa", "xsum_loss")]
    piqa, xsum = along_paths(removed, tasks, RunConfig(BUDGETS["quick"], folder / "runs"))
    return piqa, xsum, folder


def test_every_set_scores_as_the_model_without_its_blocks(
    removed: RemovalResult, found: tuple[TaskCurves, TaskCurves, Path], tmp_path: Path
) -> None:
    *along, data = found
    blocks = removed.model.blocks
    for task, metrics in zip(along, (("acc", "log_loss", "brier"), ("nll",)), strict=True):
        for ablation in [*removed.scored.paths["greedy"], *removed.scored.paths["angular"], *removed.scored.paths["random 3"]]:
            left = removed.model.with_blocks([block for i, block in enumerate(blocks) if i not in ablation.blocks])
            study = TaskStudy.of(left, [], load_tasks(task.found.task, limit=14, data=data))
            expected = task_table(study, *study.scores(tmp_path / f"{task.found.task} {ablation}")).set_index("metric")
            for metric in metrics:
                assert task.value(ablation, metric).value == pytest.approx(expected.loc[metric, "value"], rel=1e-6, abs=1e-6)


def test_figures_and_tables_show_every_order(removed: RemovalResult, found: tuple[TaskCurves, TaskCurves, Path]) -> None:
    piqa, xsum, _ = found
    against = ("against blocks removed", "against what is saved")
    assert list(piqa.figures) == [f"{what} {x}" for what in ("accuracy", piqa.found.loss_name) for x in against]
    assert list(xsum.figures) == [f"{xsum.found.loss_name} {x}" for x in against]
    spec = removed.model.spec  # of blocks that are all of one size: one panel says all
    of_all, of_flops = spec.block_params / spec.n_params, 1 - spec.unembed_flops / spec.flops_per_token
    assert piqa.figures["accuracy against what is saved"].axes[0].get_xlabel() == (
        f"the blocks' parameters removed\n(all parameters {of_all:.2g} times that, FLOPs {of_flops:.2g} times that)"
    )
    greedy = removed.scored.paths["greedy"]
    lines = {str(line.get_label()): line for line in piqa.figures["accuracy against blocks removed"].axes[1].lines}
    assert np.asarray(lines["greedy blocks"].get_ydata()) == pytest.approx([piqa.value(a, "acc").value for a in greedy])
    assert np.asarray(lines["guessing"].get_ydata()) == pytest.approx(0.5)
    assert piqa.table["order"].tolist() == xsum.table["order"].tolist() == ["unpruned", *removed.titles.values()]
    assert "14 questions" in piqa.bands
    plt.close("all")


def test_the_table_holds_the_largest_sets_up_to_a_quarter(removed: RemovalResult, found: tuple[TaskCurves, TaskCurves, Path]) -> None:
    piqa, xsum, _ = found
    for task, shown in ((piqa, "accuracy"), (xsum, xsum.found.loss_name)):
        rows = task.table.set_index("order")
        for name in ("greedy", "sublayers", "bi"):
            ablation = [a for a in removed.scored.paths[name] if size(a) <= removed.paper_n_removed][-1]
            row = rows.loc[removed.titles[name]]
            assert row["blocks removed"] == "1"
            assert row[shown] == bounded(task.value(ablation, "acc" if shown == "accuracy" else "nll"))
            assert row["rise in loss"] == bounded(task.value(ablation, f"delta_{task.found.loss}"))


def planted(removed: RemovalResult, data: Path, n: int, knows: Callable[[Ablation], bool]) -> TaskCurves:
    """Right answers where a set leaves the model what it knows, and the first option elsewhere."""
    study = TaskStudy.of(removed.model, [a for a in removed.scored.nll if a], load_tasks("piqa", limit=n, data=data))
    known = [knows(ablation) for ablation in study.plan.ablations]
    nats = []
    for item in study.tasks.items:
        right = study.tasks.gold(item)[0][0]
        nats.append(np.array([np.where(np.arange(2) == (right if yes else 0), -1.0, -9.0) for yes in known]))
    table = by_ablation(study, nats, [values > -5 for values in nats], kinds_of(removed, study), bare="random")
    return TaskCurves(removed, by_task(study, table)[0], {a: i for i, a in enumerate(study.plan.ablations)})


def test_words_follow_what_was_planted(removed: RemovalResult, tmp_path: Path) -> None:
    """Half of the right answers are the first option, so that a model that guesses is right as often as a guess is."""
    table_1(tmp_path, 40)
    knows = planted(removed, tmp_path, 40, lambda a: size(a) <= 2 and 0 not in a.blocks | a.mixers | a.ffns)
    assert "It is significantly better than chance." in knows.conclusion
    reach = {}
    for name, title in removed.titles.items():
        bad = [a for a in removed.scored.paths[name] if size(a) > 2 or 0 in a.blocks | a.mixers | a.ffns]
        reach[title] = max([size(a) for a in removed.scored.paths[name] if size(a) < size(bad[0])])
    assert len(set(reach.values())) > 1
    for title, blocks in reach.items():
        clause = next(clause for clause in knows.conclusion.split("; ") if title in clause.removesuffix("."))
        assert f"{blocks:g} by " in clause
    assert (
        "blocks removed, the loss of the correct option (nats) differs significantly from that of the unpruned model by" in knows.conclusion
    )
    assert knows.value(NONE, "acc").value == 1


def test_a_model_that_guesses_has_no_reach(removed: RemovalResult, tmp_path: Path) -> None:
    table_1(tmp_path, 40)
    guesses = planted(removed, tmp_path, 40, lambda a: False)
    assert "not significantly better than chance, so changes of its accuracy mean nothing" in guesses.conclusion
    assert "this many blocks removed" not in guesses.conclusion
    assert "does not differ significantly from that of the unpruned model by any order" in guesses.conclusion
    assert set(guesses.table["better than guessing"]) == {"not significantly"}


def test_the_set_of_the_paper_is_not_a_random_one(removed: RemovalResult, found: tuple[TaskCurves, TaskCurves, Path]) -> None:
    scored = removed.scored
    theirs = next(iter({a for name in removed.null for a in scored.paths[name]} - {a for n in removed.whole for a in scored.paths[n]}))
    paths = {name: tuple(a for a in path if a != theirs) for name, path in scored.paths.items()}
    study = TaskStudy.of(removed.model, [a for a in scored.nll if a], load_tasks("piqa", limit=14, data=found[2]))
    kinds = dict(zip(study.plan.ablations, kinds_of(replace(removed, scored=replace(scored, paths=paths)), study), strict=True))
    assert kinds[theirs] == "sets"
    assert "random" in kinds.values()


def test_random_orders_do_not_hide_what_the_dense_model_knows(removed: RemovalResult, tmp_path: Path) -> None:
    """A dense model whose p-value is near 0.05 stands for itself, beside hundreds of sets that guess."""
    table_1(tmp_path, 40)
    found = planted(removed, tmp_path, 40, lambda a: not a)
    assert found.value(NONE, "beats_chance").value == 1
    assert "with up to this many blocks removed: 0 by " in found.conclusion


def test_too_few_questions_leave_it_open(found: tuple[TaskCurves, TaskCurves, Path]) -> None:
    xsum = found[1]
    few = replace(xsum, found=replace(xsum.found, table=xsum.found.table.assign(n_documents=5)))
    assert few.conclusion.startswith("What removals cost on xsum")
    assert "not known: " in few.conclusion
