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
    """Mean over seeds with its 95 % interval: Student's t. Without one where there are fewer than ENOUGH, or a value is missing.

    A bootstrap of documents within a bootstrap of seeds covers 73 % of three seeds, and 80 % of their difference from three others.
    """
    found = np.array(values, dtype=float)
    value = float(found.mean())
    if len(found) < ENOUGH or not np.isfinite(found).all():
        return Interval(value, None, None)
    half = student(len(found)) * _error(found)
    return Interval(value, value - half, value + half)


class Difference(NamedTuple):
    """Mean over the seeds of one side less that of the other."""

    interval: Interval  # Welch's t
    p: float  # Welch's t-test, two-sided
    exact: float  # of the permutation test: the share of all ways to deal out the seeds that lie as far apart
    least: float  # that the permutation test can give with so many seeds

    @property
    def known(self) -> bool:
        return self.interval.low is not None


def difference(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Welch (1947), degrees of freedom by Satterthwaite; beside it the exact permutation test of the means (Fisher, 1935).

    Not known, with p-values of 1, below ENOUGH seeds on either side and where a value is missing.
    """
    x, y = np.array(a, dtype=float), np.array(b, dtype=float)
    value = float(x.mean() - y.mean())
    if min(len(x), len(y)) < ENOUGH or not np.isfinite([*x, *y]).all():
        return Difference(Interval(value, None, None), 1.0, 1.0, 1.0)
    error = math.hypot(_error(x), _error(y))
    freedom = error**4 / sum(_error(of) ** 4 / (len(of) - 1) for of in (x, y)) if error else math.inf
    rounding = EXACT * float(np.abs([*x, *y]).max())
    t = abs(value) / error if error else math.inf if abs(value) > rounding else 0.0
    half = float(stats.t.ppf(TAILS[1], freedom)) * error
    return Difference(Interval(value, value - half, value + half), float(2 * stats.t.sf(t, freedom)), *_permuted(x, y))


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
