"""Intervals and decisions from sums per document. Documents are the unit; everything is fp64.

How often the intervals hold the truth is simulated: `reports/coverage.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy import special, stats

from analysis.stats.bootstrap import Array, resampled

MIN_DOCUMENTS_FOR_CI = 12  # documents below which no interval is given
MANY = 64  # documents from which on an interval may be lopsided: a bootstrap of fewer is too narrow (BCa over 12 covers 90 %)
TAILS = np.array([0.025, 0.975])
RATE = 0.05  # of false discoveries
EXACT = 1e-12  # of a value: a standard error below it is rounding


class Interval(NamedTuple):
    value: float
    low: float | None  # 95 %; None where it cannot be had
    high: float | None

    def within(self, least: float, most: float) -> Interval:
        """Cut to what can be at all."""
        return self if self.low is None or self.high is None else Interval(self.value, max(least, self.low), min(most, self.high))


def ratio(sums: Array, counts: Array, *, then: Callable[[Array], Array] = np.asarray, seed: int = 0) -> Interval:
    """then(sum of `sums` / sum of `counts`) over documents (D,), with its 95 % interval; `then` must not fall.

    A mean over tokens is such a ratio, since documents hold different numbers of tokens. For a paired difference, give
    the documents' differences. Student's t on the linearised ratio below MANY documents, BCa from there. The interval of
    a function is the function of the interval.
    """
    value, low, high = (float(then(end)) for end in ratios(sums, counts, seed))
    return Interval(value, low, high) if np.isfinite([low, high]).all() else Interval(value, None, None)


def ratios(sums: Array, counts: Array, seed: int = 0) -> tuple[Array, Array, Array]:
    """Of (..., D) and (..., D): the ratios (...) and the ends of their intervals, NaN where there are none."""
    n, value = sums.shape[-1], np.asarray(sums.sum(-1) / counts.sum(-1))
    if n < MIN_DOCUMENTS_FOR_CI:
        return value, value * np.nan, value * np.nan
    error = standard_error(sums, counts)
    if n < MANY:
        half = student(n) * error
        return value, value - half, value + half
    return value, *np.where(error > EXACT * np.abs(value), _bca(sums, counts, seed), value)


def standard_error(sums: Array, counts: Array) -> Array:
    """Of the ratio of sums over documents (..., D), linearised: (...). Cochran (1977), section 6.4; 0 where nothing varies."""
    n, value = sums.shape[-1], sums.sum(-1) / counts.sum(-1)
    residuals = sums - value[..., None] * counts  # their mean is 0
    error = np.sqrt((residuals**2).sum(-1) / (n - 1) / n) / np.abs(counts.mean(-1))
    return np.where(error > EXACT * np.abs(value), error, 0)


def student(n: int) -> float:
    """How many standard errors an interval over n documents reaches to either side."""
    return float(stats.t.ppf(TAILS[1], n - 1))


def _bca(sums: Array, counts: Array, seed: int) -> Array:
    """Ends of the intervals (2, ...). Efron (1987), read at the quantiles of Student's t and widened, as the bootstrap's variance is
    too small by (n - 1) / n: what Hesterberg (2015, The American Statistician 69) does to percentiles."""
    n, value = sums.shape[-1], sums.sum(-1) / counts.sum(-1)
    found = np.sort(resampled(lambda draw: sums[..., draw].sum(-1) / counts[..., draw].sum(-1), n, seed=seed), axis=-1)
    below = ((found < value[..., None]).mean(-1) + (found <= value[..., None]).mean(-1)) / 2
    left_out = (sums.sum(-1, keepdims=True) - sums) / (counts.sum(-1, keepdims=True) - counts)
    u = left_out.mean(-1, keepdims=True) - left_out
    with np.errstate(divide="ignore", invalid="ignore"):  # where nothing varies there is no interval
        acceleration = (u**3).sum(-1) / (6 * (u**2).sum(-1) ** 1.5)
        bias = special.ndtri(below)
        z = bias + np.multiply.outer([-1, 1], np.sqrt(n / (n - 1)) * student(n) * np.ones_like(value))
        place = special.ndtr(bias + z / (1 - acceleration * z)) * (found.shape[-1] - 1)  # (2, ...)
    known = np.isfinite(place)
    at = np.where(known, place, 0)
    floor = np.minimum(at.astype(int), found.shape[-1] - 2)
    lower, upper = (np.take_along_axis(found, np.moveaxis(floor + step, 0, -1), -1) for step in (0, 1))
    ends = np.moveaxis(lower, -1, 0) + (at - floor) * np.moveaxis(upper - lower, -1, 0)
    return np.where(known, ends, np.nan)


def accuracy(right: Array, dense: Array | None = None) -> Interval:
    """Share of right answers (questions,), 1 or 0 each, or how far it is above that of another model on the same questions.

    Wilson (1927); of differences Agresti and Min (2005). Where all answers are right, or all are the other model's, the
    standard error is 0 and says nothing.
    """
    n, z = len(right), special.ndtri(TAILS[1])
    differences = right if dense is None else right - dense
    value = float(differences.mean())
    if n < MIN_DOCUMENTS_FOR_CI:
        return Interval(value, None, None)
    if dense is None:
        centre, half = (value + z**2 / (2 * n)) / (1 + z**2 / n), np.sqrt(value * (1 - value) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    else:  # half a question more on either side, and one without a difference
        centre = differences.sum() / (n + 2)
        half = np.sqrt((((differences**2).sum() + 1) / (n + 2) - centre**2) / (n + 2))
    low, high = float(centre - z * half), float(centre + z * half)
    if dense is None:  # Wilson's ends are the value itself where all answers are alike, but for rounding
        low, high = (value if value == 0 else low), (value if value == 1 else high)
    return Interval(value, low, high)


def p_values(sums: Array, counts: Array) -> Array:
    """Student's t-test of each row of `sums` (rows, D) for a ratio other than zero: (rows,).

    Below 0.05 exactly where the t interval of `ratio` leaves zero out.
    """
    n, value, error = sums.shape[-1], sums.sum(-1) / counts.sum(-1), standard_error(sums, counts)
    t = np.divide(np.abs(value), error, out=np.where(value == 0, 0, np.inf), where=error > 0)
    return 2 * stats.t.sf(t, n - 1)


class Significance(NamedTuple):
    """Of each row of a family: is it other than zero?"""

    p_value: Array
    p_adjusted: Array  # Benjamini and Hochberg (1995) over the family: at most the rate where a row is significant
    significant: Array  # bool; False without enough documents, where the others are NaN

    def of(self, row: int) -> dict[str, float]:
        """By name; p-values only where they are known."""
        values = {name: float(column[row]) for name, column in self._asdict().items()}
        return {name: value for name, value in values.items() if not np.isnan(value)}


def differs_from_zero(differences: Array, counts: Array, rate: float = RATE) -> Significance:
    """Which rows of `differences` (rows, D) over `counts` (D,) are other than zero, false discoveries held to `rate`.

    A t-test over documents for each row; the rows are the family. Not known below MIN_DOCUMENTS_FOR_CI.
    """
    return discoveries(_known_p(differences, counts), rate)


def differs_by_family(families: Sequence[str], differences: Array, counts: Array) -> Significance:
    """As `differs_from_zero`; rows of equal `families` are one."""
    return discoveries_by_family(families, _known_p(differences, counts))


def _known_p(differences: Array, counts: Array) -> Array:
    """`p_values`, NaN with too few documents."""
    few = len(differences) == 0 or differences.shape[1] < MIN_DOCUMENTS_FOR_CI
    return np.full(len(differences), np.nan) if few else p_values(differences, counts)


def discoveries(p: Array, rate: float = RATE) -> Significance:
    """Which of a family of tests (rows,) find something; none where they are NaN."""
    if not len(p) or np.isnan(p).any():
        return Significance(p * np.nan, p * np.nan, np.zeros(len(p), dtype=bool))
    adjusted = stats.false_discovery_control(p, method="bh")
    return Significance(p, adjusted, adjusted <= rate)


def discoveries_by_family(families: Sequence[str], p: Array) -> Significance:
    """As `discoveries`; tests of equal `families` are one."""
    names, found = np.array(families), Significance(p * np.nan, p * np.nan, np.zeros(len(p), dtype=bool))
    for family in dict.fromkeys(families):
        for column, values in zip(found, discoveries(p[names == family]), strict=True):
            column[names == family] = values
    return found


def differing_pairs(counts: Array, *contests: Mapping[str, Array]) -> list[set[frozenset[str]]]:
    """Of each contest the pairs of names whose sums (D,) differ; the pairs of all contests are one family of `differs_from_zero`."""
    pairs = [(i, a, b) for i, sums in enumerate(contests) for a, b in combinations(sums, 2)]
    significant = differs_from_zero(np.array([contests[i][a] - contests[i][b] for i, a, b in pairs]), counts).significant
    found: list[set[frozenset[str]]] = [set() for _ in contests]
    for (i, a, b), yes in zip(pairs, significant, strict=True):
        if yes:
            found[i].add(frozenset((a, b)))
    return found
