"""Intervals and decisions from sums per document. Documents are the unit; everything is fp64."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

Array = np.ndarray

MIN_DOCUMENTS_FOR_CI = 12  # documents below which no interval is given
RESAMPLES = 2000


class Interval(NamedTuple):
    value: float
    low: float | None  # 95 %; None where it cannot be had
    high: float | None


def ratio(sums: Array, counts: Array, *, then: Callable[[Array], Array] = np.asarray, seed: int = 0) -> Interval:
    """then(sum of `sums` / sum of `counts`) over documents (D,), with its BCa bootstrap interval.

    A mean over tokens is such a ratio, since documents hold different numbers of tokens. For a paired difference, give
    the documents' differences. Efron (1987), as in scipy.stats.bootstrap.
    """

    def statistic(a: Array, b: Array, axis: int = -1) -> Array:
        return then(a.sum(axis) / b.sum(axis))

    value = float(statistic(sums, counts))
    if len(sums) < MIN_DOCUMENTS_FOR_CI:
        return Interval(value, None, None)
    if np.ptp(sums / counts) == 0:  # nothing varies, and BCa would divide by zero
        return Interval(value, value, value)
    low, high = stats.bootstrap(
        (sums, counts), statistic, paired=True, vectorized=True, n_resamples=RESAMPLES, method="BCa", rng=np.random.default_rng(seed)
    ).confidence_interval
    if not np.isfinite([low, high]).all():
        return Interval(value, None, None)
    return Interval(value, float(low), float(high))


def differs_from_zero(differences: Array, rate: float = 0.05) -> Array:
    """Which rows of `differences` (ablations, D) have a mean other than zero, false discoveries held to `rate`.

    A t-test over documents for each row, then Benjamini and Hochberg (1995) over the family. All False below ENOUGH.
    """
    if len(differences) == 0 or differences.shape[1] < MIN_DOCUMENTS_FOR_CI:
        return np.zeros(len(differences), dtype=bool)
    varies = np.ptp(differences, axis=1) > 0
    p = np.where(differences[:, 0] != 0, 0.0, 1.0)  # of rows that do not vary at all
    p[varies] = stats.ttest_1samp(differences[varies], 0, axis=1).pvalue
    return stats.false_discovery_control(p, method="bh") <= rate
