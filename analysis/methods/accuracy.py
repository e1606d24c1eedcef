"""Accuracies of a model on several tasks, their mean, and the share of the dense model's that is retained (paper, Table 1).

Accuracy is lm_eval's `acc` everywhere: the share of questions whose likeliest option is right, lengths aside. A task without
options has its loss instead, and no part in means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adapters.base import BlockModel
from adapters.errors import StrataError
from analysis.stats.bootstrap import Array
from analysis.stats.estimates import estimate
from analysis.stats.intervals import Interval, accuracy, ratio
from analysis.tasks import TaskSet
from analysis.tasks.benchmark import guessing
from analysis.tasks.study import TaskStudy

METRIC = "acc"  # lm_eval's


class Answers(NamedTuple):
    """A model on the questions of one task, or of a group's tasks one after the other."""

    values: Array  # (questions,): 1 or 0; without options the loss of the right answer, in nats
    counts: Array  # (questions,): 1; without options the tokens of the answer
    chance: float | None  # the accuracy of guessing; None: the task has no options

    @property
    def interval(self) -> Interval:
        """Accuracy, or the loss in nats per token."""
        return ratio(self.values, self.counts) if self.chance is None else accuracy(self.values)


def has_options(tasks: TaskSet) -> bool:
    """Is it scored by accuracy? Nothing is run for the answer.

    Raises StrataError on a set of tasks with options and tasks without, and on options that lm_eval gives no accuracy for.
    """
    options = {item.task: bool(tasks.gold(item)[1]) for item in tasks.items}
    if len(set(options.values())) > 1:
        raise StrataError(f"{tasks.name} has tasks with options and tasks without, which have no mean: ask for them one by one")
    if not any(options.values()):
        return False
    guesses = tasks.metrics([[(0.0, False)] * len(item.instances) for item in tasks.items])
    if lacking := [name for name in options if METRIC not in guesses[name] or guesses[name][METRIC].documents is None]:
        raise StrataError(f"{lacking[0]} has options and no {METRIC} in lm_eval, by which tasks are compared here: choose another task")
    return True


def answers(model: BlockModel, tasks: TaskSet, folder: Path, progress: Callable[[int], None] = lambda n: None) -> Answers:
    """Scores what the folder does not hold yet. Raises StrataError as `has_options` does."""
    accurate, study = has_options(tasks), TaskStudy.of(model, [], tasks)
    nats, greedy = study.scores(folder, progress)
    if not accurate:
        tokens = [sum(len(request.continuation) for request in requests) for requests in study.requests]
        return Answers(np.array([-float(n[0].sum()) for n in nats]), np.array(tokens, dtype=float), None)
    found = tasks.metrics([tasks.outcomes(item, nats[d][0], greedy[d][0]) for d, item in enumerate(tasks.items)])
    right = np.concatenate([part for name in tasks.tasks if (part := found[name][METRIC].documents) is not None])
    return Answers(right, np.ones(len(right)), guessing([tasks.gold(item) for item in tasks.items])["accuracy"])


def mean(right: Sequence[Array]) -> Interval:
    """Mean over tasks of their accuracies, from (questions,) of each."""
    if len(right) == 1:
        return accuracy(right[0])
    return _over_tasks(lambda *draws: np.mean([r[draw].mean(-1) for r, draw in zip(right, draws, strict=True)], axis=0), right).within(0, 1)


def retained(right: Sequence[Array], dense: Sequence[Array]) -> Interval:
    """The mean over that of the dense model on the same questions."""

    def share(*draws: Array) -> Array:
        found, all_ = (np.mean([r[draw].mean(-1) for r, draw in zip(of, draws, strict=True)], axis=0) for of in (right, dense))
        return np.divide(found, all_, out=np.full_like(found, np.nan), where=all_ > 0)

    return _over_tasks(share, right)


def _over_tasks(of: Callable[..., Array], right: Sequence[Array]) -> Interval:
    """Questions are drawn within each task. No interval where answers do not vary at all, nor where a task has too few questions."""
    interval = estimate(of, *map(len, right)).interval
    return Interval(interval.value, None, None) if interval.low == interval.high else interval
