"""Benchmarks as blocks are removed: what is scored without each set, and the share that is left of the unpruned model's score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from adapters.ablation import NONE, Ablation
from adapters.base import BlockModel
from analysis.removal.paths import RemovalPath, size
from analysis.runs.settings import RunConfig, progress_fraction, run_folder
from analysis.runs.tables import write_table
from analysis.stats.intervals import Interval, ratio
from analysis.stats.shares import kept

if TYPE_CHECKING:
    from analysis.tasks import TaskSet


@dataclass(frozen=True)
class TaskPath:
    """A benchmark without sets of blocks; `left` of the unpruned model's score, above guessing where answers are chosen."""

    task: str
    metric: str
    written: bool
    chance: float | None  # what guessing scores; None where nothing is chosen
    scores: Mapping[Ablation, Interval]
    left: Mapping[Ablation, Interval]  # NaN where the unpruned model is no better than guessing
    n_documents: int

    @property
    def title(self) -> str:
        return f"{self.task}, {'generated' if self.written else 'multiple choice' if self.chance is not None else 'loss'}"

    @property
    def known(self) -> bool:
        """Does the unpruned model score more than guessing does?"""
        return bool(np.isfinite(self.left[NONE].value))

    def along(self, paths: Mapping[str, RemovalPath]) -> pd.DataFrame:
        """The score along orders, as `analysis.display.removal_plots.measures` takes it."""
        rows = [(name, size(a), *self.scores[a]) for name, path in paths.items() for a in path]
        return pd.DataFrame(rows, columns=["order", "removed", "value", "ci_low", "ci_high"])


def along(
    model: BlockModel, tasks: TaskSet, paths: Mapping[str, RemovalPath], config: RunConfig, max_tokens: int | None = None
) -> TaskPath:
    """A benchmark along the orders; answers that are written have `max_tokens` new tokens instead of what the task asks for."""
    sets: list[Ablation] = list(dict.fromkeys(a for path in paths.values() for a in path if a))
    return _written(model, tasks, sets, config, max_tokens) if tasks.written else _chosen(model, tasks, sets, config)


def _written(model: BlockModel, tasks: TaskSet, sets: Sequence[Ablation], config: RunConfig, max_tokens: int | None) -> TaskPath:
    """By the first of the task's metrics that are means over documents; guessing writes no right answer."""
    from analysis.tasks.written import WrittenTaskStudy, of_documents, written_table

    study = WrittenTaskStudy.of(model, sets, tasks, most=max_tokens)
    folder = run_folder(config.out, study.writing.identity)
    texts = study.writing.texts(folder, progress_fraction(config.progress, tasks.name, study.steps))
    found = [study.metrics(row) for row in texts]
    table = write_table(study.open(folder), written_table(study, texts, found), study.documents, model.spec)
    name, each = next(iter(of_documents(tasks, found).items()))
    metric = next(iter(each[0]))
    scores = np.stack([documents[metric] for documents in each])
    right = (0.0, 1.0) if np.isin(scores, (0, 1)).all() else None
    return _path(tasks.name, metric, table[table["dataset"] == name], study.plan.ablations, _left(scores, right), written=True)


def _chosen(model: BlockModel, tasks: TaskSet, sets: Sequence[Ablation], config: RunConfig) -> TaskPath:
    """By accuracy above guessing; where nothing is chosen by the loss, of which is left what is left of perplexity."""
    from analysis.tasks.benchmark import by_task
    from analysis.tasks.study import TaskStudy, by_ablation, of_documents

    study = TaskStudy.of(model, sets, tasks)
    found = study.scores(run_folder(config.out, study.identity), progress_fraction(config.progress, tasks.name, study.steps))
    ablations = study.plan.ablations
    benchmark = by_task(study, by_ablation(study, *found, ["sets" if a else "dense" for a in ablations]))[0]
    each = of_documents(study, *found)[benchmark.task]
    if not benchmark.has_options:
        (sums, counts) = (np.stack([one["nll"][place] for one in each]) for place in (0, 1))
        left = [ratio(-more, counts[0], then=np.exp) for more in sums - sums[0]]
        return _path(tasks.name, "nll", benchmark.table, ablations, left)
    above, chance = np.stack([one["above_chance"][0] for one in each]), benchmark.chance["accuracy"]
    return _path(tasks.name, "acc", benchmark.table, ablations, _left(above, (-chance, 1 - chance)), chance)


def _left(above: np.ndarray, right: tuple[float, float] | None) -> list[Interval]:
    """Of scores above guessing (sets, questions), the unpruned model's first."""
    return [kept(each, above[0], right=right) for each in above]


def _path(
    task: str,
    metric: str,
    table: pd.DataFrame,
    ablations: Sequence[Ablation],
    left: Sequence[Interval],
    chance: float | None = None,
    written: bool = False,
) -> TaskPath:
    """`table`: of the task, its ablations in their order."""
    rows = table[table["metric"] == metric]
    scores = [Interval(*row) for row in rows[["value", "ci_low", "ci_high"]].itertuples(index=False)]
    of_sets, left_of_sets = (dict(zip(ablations, found, strict=True)) for found in (scores, left))
    return TaskPath(task, metric, written, chance, of_sets, left_of_sets, int(rows["n_documents"].iloc[0]))
