"""Accuracies of a model on several tasks, their mean, and the share of the dense model's that is retained (paper, Table 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from adapters.base import BlockModel
from adapters.errors import StrataError
from analysis.statistics import ENOUGH, RESAMPLES, Array, Interval
from analysis.tasks import TaskSet
from analysis.tasks.study import TaskStudy

ACCURACIES = ("acc_norm", "acc")  # lm_eval's, the first that a task has


def accuracies(model: BlockModel, tasks: TaskSet, folder: Path, progress: Callable[[int], None] = lambda n: None) -> Array:
    """1 or 0 for each question, those of a group one after the other: (questions,).

    Raises StrataError when a task has no accuracy.
    """
    study = TaskStudy.of(model, [], tasks)
    nats, greedy = study.scores(folder, progress)
    outcomes = [tasks.outcomes(model, item, nats[d][0], greedy[d][0]) for d, item in enumerate(tasks.items)]
    found = tasks.metrics(outcomes)
    parts = []
    for name in tasks.tasks:
        right = next((found[name][metric].documents for metric in ACCURACIES if metric in found[name]), None)
        if right is None:
            raise StrataError(f"{name} has no accuracy and cannot be part of a mean: choose tasks with options")
        parts.append(right)
    return np.concatenate(parts)


def mean(right: Sequence[Array]) -> Interval:
    """Mean over tasks of their accuracies, from (questions,) of each."""
    return _resampled([r[None] for r in right], lambda means: means[0].mean(0))


def retained(right: Sequence[Array], dense: Sequence[Array]) -> Interval:
    """The mean over that of the dense model on the same questions."""
    return _resampled([np.stack(pair) for pair in zip(right, dense, strict=True)], lambda means: means[0].mean(0) / means[1].mean(0))


def _resampled(tasks: Sequence[Array], statistic: Callable[[Array], Array], seed: int = 0) -> Interval:
    """`statistic` of means (models, tasks, ...) with its percentile bootstrap interval; questions are drawn within each task.

    `tasks`: of each (models, questions), so that models are paired. Below ENOUGH questions of a task there is no interval.
    """
    value = float(statistic(np.stack([t.mean(1) for t in tasks], 1)[..., None])[0])
    if min(t.shape[1] for t in tasks) < ENOUGH:
        return Interval(value, None, None)
    rng = np.random.default_rng(seed)
    drawn = [t[:, rng.integers(t.shape[1], size=(RESAMPLES, t.shape[1]))].mean(-1) for t in tasks]  # (models, resamples) each
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.quantile(statistic(np.stack(drawn, 1)), [0.025, 0.975])
    return Interval(value, float(low), float(high)) if np.isfinite([low, high]).all() else Interval(value, None, None)
