"""Statistics over training seeds, the unit of any word on architectures: documents say nothing of another training.

How often the intervals hold the truth is simulated: `reports/coverage.md`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy import stats

from analysis.stats.intervals import EXACT, TAILS, Interval, student

ENOUGH = 3  # seeds of each side, from which on architectures can be spoken of


def over_seeds(values: Sequence[float]) -> Interval:
    """Mean over seeds with its 95 % interval: Student's t. Without one where there are fewer than ENOUGH, where a value is missing, and
    where all are equal: what takes few values says nothing then of how much seeds vary.

    A bootstrap of documents within a bootstrap of seeds covers 73 % of three seeds, and 80 % of their difference from three others.
    """
    found = np.array(values, dtype=float)
    value = float(found.mean())
    if len(found) < ENOUGH or not np.isfinite(found).all():
        return Interval(value, None, None)
    return _around(value, student(len(found)) * _error(found))


class Difference(NamedTuple):
    """Mean over the seeds of one side less that of the other."""

    interval: Interval  # Welch's t; without bounds where the seeds of each side are equal
    p: float  # Welch's t-test, two-sided; that of the permutation test where the seeds of each side are equal
    exact: float  # of the permutation test: the share of all ways to deal out the seeds that lie as far apart
    least: float  # that the permutation test can give with so many seeds

    @property
    def known(self) -> bool:
        return self.least < 1


def difference(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Welch (1947), degrees of freedom by Satterthwaite; beside it the exact permutation test of the means (Fisher, 1935).

    Not known, with p-values of 1, below ENOUGH seeds on either side and where a value is missing.
    """
    x, y = np.array(a, dtype=float), np.array(b, dtype=float)
    value = float(x.mean() - y.mean())
    if min(len(x), len(y)) < ENOUGH or not np.isfinite([*x, *y]).all():
        return Difference(Interval(value, None, None), 1.0, 1.0, 1.0)
    error = math.hypot(_error(x), _error(y))
    exact, least = _permuted(x, y)
    if not error:
        return Difference(Interval(value, None, None), exact, exact, least)
    freedom = error**4 / sum(_error(of) ** 4 / (len(of) - 1) for of in (x, y))
    around = _around(value, float(stats.t.ppf(TAILS[1], freedom)) * error)
    return Difference(around, float(2 * stats.t.sf(abs(value) / error, freedom)), exact, least)


def _around(value: float, half: float) -> Interval:
    return Interval(value, value - half, value + half) if half else Interval(value, None, None)


def _permuted(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The p-value of the exact test, two-sided, and the least that so many seeds can give."""
    both, n = np.concatenate([x, y]), len(x)
    sums = np.array([both[list(some)].sum() for some in combinations(range(len(both)), n)])
    apart = np.abs(sums / n - (both.sum() - sums) / len(y))
    slack = EXACT * np.abs(both).max()
    return float((apart >= abs(x.mean() - y.mean()) - slack).mean()), (2 if n == len(y) else 1) / len(sums)


def _error(values: np.ndarray) -> float:
    """Standard error of the mean over seeds; 0 where they differ by rounding alone."""
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return error if error > EXACT * abs(float(values.mean())) else 0.0
