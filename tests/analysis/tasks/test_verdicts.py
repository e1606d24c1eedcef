"""Sentences about benchmarks, held against a planted effect, pure noise, and too little data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.engine.ablations import single_ablations
from analysis.runs.budgets import BUDGETS
from analysis.runs.settings import RunConfig
from analysis.stats.intervals import Interval
from analysis.tasks import load_tasks, verdicts
from analysis.tasks.benchmark import benchmarks, facts, guessing
from analysis.tasks.plots import by_block, loss_by_head, overlaid
from analysis.tasks.study import TaskStudy, task_table
from tests.analysis.tasks.makers import table_1
from tests.analysis.tasks.oracle import Both


def parts(significant: list[bool], rises: list[float] | None = None) -> pd.DataFrame:
    rises = rises or [0.1] * len(significant)
    rows = {
        "block": range(len(significant)),
        "head": 0,
        "value": rises,
        "ci_low": [r - 0.05 for r in rises],
        "ci_high": [r + 0.05 for r in rises],
    }
    return pd.DataFrame(rows).assign(significant=significant)


def test_against_chance() -> None:
    better = verdicts.against_chance("piqa", Interval(0.7, 0.6, 0.8), 0.5, beats=True, n_documents=40)
    assert better == (
        "The accuracy of the unpruned model on piqa is 0.700 (0.600 to 0.800) over 40 questions; guessing gives 0.500. "
        "It is significantly better than chance."
    )
    noise = verdicts.against_chance("mmlu", Interval(0.26, 0.2, 0.32), 0.25, beats=False, n_documents=40)
    assert "not significantly better than chance, so changes of its accuracy mean nothing" in noise
    assert "not known: " in verdicts.against_chance("piqa", Interval(1.0, None, None), 0.5, beats=False, n_documents=5)


def test_down_to_chance_names_all_parts() -> None:
    assert verdicts.down_to_chance(parts([True] * 3), "blocks").startswith("So it is without any one of the 3 blocks")
    said = verdicts.down_to_chance(parts([True, False, False]), "heads")
    assert said.startswith("Without any one of 2 of 3 heads it no longer is")
    assert said.endswith(": 1.0, 2.0.")


def test_costs() -> None:
    planted = verdicts.costs(parts([True, False], [1.0, 0.01]), "blocks", n_documents=40)
    assert "changes the loss significantly for 1 of 2 blocks" in planted
    assert "1.00 (0.950 to 1.05) nats, without block 0" in planted
    assert "changes the loss significantly for none of the 2 mixers" in verdicts.costs(parts([False] * 2), "mixers", n_documents=40)
    assert verdicts.costs(parts([False] * 2), "blocks", n_documents=5).startswith(
        "Whether removing a single block changes the loss is not known: "
    )


def test_guessing() -> None:
    assert guessing([([0], 4), ([1], 2)]) == {"accuracy": 0.375, "loss": pytest.approx(1.5 * np.log(2))}
    assert guessing([([], 0)]) == {}


def study_of(tiny: Both, folder: Path, n: int) -> TaskStudy:
    table_1(folder, n)
    return TaskStudy.of(tiny.model, single_ablations(tiny.model.spec, ["blocks"]), load_tasks("piqa", data=folder))


def test_a_model_that_knows_beats_chance_and_one_that_guesses_does_not(tiny: Both, tmp_path: Path) -> None:
    study = study_of(tiny, tmp_path, 40)
    right = np.array([study.tasks.gold(item)[0][0] for item in study.tasks.items])
    n = len(study.plan.ablations)
    knows = [np.tile(np.where(np.arange(2) == r, -1.0, -9.0), (n, 1)) for r in right]
    for d, nats in enumerate(knows):  # without block 1, every second document is wrong
        nats[2] = nats[2][::-1] if d % 4 < 2 else nats[2]
    table = task_table(study, knows, [nats > -5 for nats in knows])
    beats = table[table["metric"] == "beats_chance"].set_index("kind")["value"]
    assert beats["dense"] == 1
    assert beats["blocks"].tolist() == [1, 0, 1]
    always = [np.tile([-1.0, -9.0], (n, 1)) for _ in right]  # the first option, whatever is asked: half of them are right
    table = task_table(study, always, [nats > -5 for nats in always])
    assert not table[table["metric"] == "beats_chance"]["value"].any()


def test_benchmarks_of_a_notebook(tiny: Both, tmp_path: Path) -> None:
    table_1(tmp_path, 14)
    config = RunConfig(BUDGETS["quick"], tmp_path / "runs")
    tasks = [load_tasks(name, limit=14, data=tmp_path) for name in ("piqa", "xsum_loss")]
    piqa, xsum = benchmarks(tiny.model, tasks, ["blocks", "heads"], config)
    assert (piqa.n_documents, piqa.has_options, xsum.has_options) == (14, True, False)
    assert facts([piqa, xsum])["task"].tolist() == ["piqa", "xsum_loss"]
    for found, panels in ((piqa, 2), (xsum, 1)):
        assert "unpruned model" in found.caption
        assert len(by_block(found).axes) == panels
        assert loss_by_head(found).axes
        assert len(overlaid([found], {found.model: ("one", "RWKVs")}).axes) == panels
        for kind in ("blocks", "heads"):
            assert "nats" in found.conclusion(kind)
    assert "guessing gives 0.500" in piqa.conclusion("blocks")
    assert "guess" not in xsum.conclusion("blocks")
    few = benchmarks(tiny.model, [load_tasks("piqa", limit=5, data=tmp_path)], ["blocks"], config)[0]
    assert few.caption.count("No bars") == 1
    assert "not known: " in few.conclusion("blocks")
    by_block(few)
