"""What share of one model's score another keeps, on the same questions: Fieller's interval."""

from __future__ import annotations

import numpy as np

from analysis.stats.bootstrap import Array
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, Interval, student

PSEUDO = 0.5  # questions added of each of the four ways in which two models can be right or wrong, as by Agresti and Min (2005)


def kept(ours: Array, whole: Array, *, right: tuple[float, float] | None = None) -> Interval:
    """Mean of `ours` as a share of the mean of `whole`, of the same questions (questions,), with its 95 % interval.

    It holds every share q for which ours - q whole does not differ from zero in a t-test: Fieller (1954). Where scores are of wrong
    and `right` answers alone, the two values that they have, half a question of each kind is added: with few right answers nothing
    varies, and the t-test is too sure. NaN where the mean of `whole` is not significantly above zero, for then there is no share.
    """
    n, share = len(whole), float(ours.sum() / whole.sum()) if whole.sum() else float("nan")
    if n < MIN_DOCUMENTS_FOR_CI:
        return Interval(share, None, None)
    x, y, weights = (np.asarray(each, dtype=float) for each in (ours, whole, np.ones(n)))
    if right is not None:
        x, y = np.concatenate([x, np.repeat(right, 2)]), np.concatenate([y, np.tile(right, 2)])
        weights = np.concatenate([weights, np.full(4, PSEUDO)])
    (vxx, vxy), (_, vyy) = np.cov(x, y, aweights=weights, ddof=0) * student(n) ** 2 / (weights.sum() - 1)
    mx, my = np.average(x, weights=weights), np.average(y, weights=weights)
    square, slope, constant = my**2 - vyy, mx * my - vxy, mx**2 - vxx  # of (mx - q my)^2 - t^2 var(x - q y) = 0
    if my <= 0 or square <= 0:
        return Interval(float("nan"), None, None)
    half = np.sqrt(max(slope**2 - square * constant, 0.0))
    low, high = (slope - half) / square, (slope + half) / square
    return Interval(share, float(min(low, share)), float(max(high, share)))
