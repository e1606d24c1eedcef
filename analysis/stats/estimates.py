"""Statistics that are no ratio of sums: rank correlations, areas, shares of blocks; with their differences and means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np
from scipy import stats

from analysis.stats.bootstrap import Array, resampled
from analysis.stats.intervals import EXACT, MIN_DOCUMENTS_FOR_CI, TAILS, Interval, student


@dataclass(frozen=True)
class Estimate:
    """A number, and what it is on resampled documents; equal seeds draw equal documents, so differences are paired."""

    value: float
    draws: Array  # (RESAMPLES,); empty with too few documents, and without a value
    documents: int  # of the smallest set that was drawn
    steps: bool = False  # does it move in whole steps?

    def __sub__(self, other: Estimate) -> Estimate:
        return self + other * -1

    def __add__(self, other: Estimate) -> Estimate:
        known = len(self.draws) and len(other.draws)
        draws = self.draws + other.draws if known else np.zeros(0)
        return Estimate(self.value + other.value, draws, min(self.documents, other.documents), self.steps or other.steps)

    def __mul__(self, factor: float) -> Estimate:
        return replace(self, value=self.value * factor, draws=self.draws * factor)

    @property
    def interval(self) -> Interval:
        """Student's t with the bootstrap's standard error: in simulations it covers what it should where percentiles and BCa do
        not, since resampling adds noise, which pulls ranks to no agreement and evens losses out.

        What moves in steps has percentiles, drawn out to the value where they leave it: its standard error is an accident.
        """
        if not self._known:
            return Interval(self.value, None, None)
        if self.steps:
            low, high = np.quantile(self.draws, TAILS)
            return Interval(self.value, min(self.value, float(low)), max(self.value, float(high)))
        half = student(self.documents) * self._error
        return Interval(self.value, self.value - half, self.value + half)

    @property
    def p(self) -> float:
        """Of being zero, two-sided, by what the interval is made of; 1 without an interval."""
        if not self._known:
            return 1.0
        if self.steps:
            n = len(self.draws)
            return min(1.0, 2 * (1 + min((self.draws <= 0).sum(), (self.draws >= 0).sum())) / (n + 1))
        t = abs(self.value) / self._error if self._error else np.inf if self.value else 0.0
        return float(2 * stats.t.sf(t, self.documents - 1))

    @property
    def _known(self) -> bool:
        return bool(len(self.draws) and np.isfinite(self.value) and np.isfinite(self.draws).all())

    @property
    def _error(self) -> float:
        """Standard error; the bootstrap's variance is too small by (n - 1) / n."""
        error = float(self.draws.std() * np.sqrt(self.documents / (self.documents - 1)))
        return error if error > EXACT * abs(self.value) else 0.0


def estimate(of: Callable[..., Array], *documents: int, steps: bool = False, seed: int = 0) -> Estimate:
    """`of` all documents, and of RESAMPLES draws of them; it is given their indices (..., D), those of each independent set."""
    value = float(of(*map(np.arange, documents)))
    few = min(documents) < MIN_DOCUMENTS_FOR_CI or not np.isfinite(value)
    return Estimate(value, np.zeros(0) if few else resampled(of, *documents, seed=seed), min(documents), steps)


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """Without draws where one of them has none."""
    return reduce(add, estimates) * (1 / len(estimates))
