"""What may be claimed of two sides of a comparison: of their architectures, of these models alone, or nothing.

Documents show that models differ. That says nothing about architectures: other seeds, trained alike, would have to repeat it, so that
seeds are the unit there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.stats import false_discovery_control

from analysis.display.sentences import Effect
from analysis.stats.intervals import RATE
from analysis.stats.seeds import ENOUGH, Difference, difference


class Side(NamedTuple):
    """One side of a comparison: a model, or the seeds of an architecture."""

    name: str
    values: tuple[float, ...]  # of each seed


class Holds(Enum):
    """How far a difference can be claimed."""

    ARCHITECTURES = "a difference between the architectures as trained here"
    MODELS = "a difference between the models that were measured"
    VARY = "seeds are too few, or vary too much, to say it of the architectures"
    DISAGREE = "the seeds disagree"
    NONE = "not significant"
    OPEN = "not known"
    NO_GAIN = "nothing to lose"


CLAIMED = (Holds.ARCHITECTURES, Holds.MODELS)


@dataclass(frozen=True)
class Claim:
    """A summary of two sides."""

    summary: str  # of SUMMARIES
    a: Side
    b: Side
    documents: Effect  # mean of a less mean of b, paired over documents
    matched: str = ""  # what they were matched by in a controlled training ("equal tokens", "equal loss"); empty if they were not
    p: float | None = None  # over seeds, adjusted for all claims beside it; None: there are none

    @cached_property
    def seeds(self) -> Difference:
        return difference(self.a.values, self.b.values)

    @property
    def p_over_seeds(self) -> float:
        """The p-value over seeds, adjusted where there are other claims."""
        return self.seeds.p if self.p is None else self.p

    @property
    def of_architectures(self) -> bool:
        """Are there seeds enough, trained alike?"""
        return bool(self.matched) and self.seeds.known

    @property
    def sides(self) -> tuple[Side, Side]:
        """The one that has more, and the other."""
        return (self.a, self.b) if self.documents.size.value > 0 else (self.b, self.a)

    @property
    def holds(self) -> Holds:
        """Enough seeds decide for themselves; fewer must agree, every one of the one side with every one of the other."""
        high, low = self.sides
        if not np.isfinite([*self.a.values, *self.b.values]).all():
            return Holds.NO_GAIN
        if self.documents.size.low is None:
            return Holds.OPEN
        if not self.documents.significant:
            return Holds.NONE
        if self.of_architectures:
            return Holds.ARCHITECTURES if self.p_over_seeds <= RATE else Holds.VARY
        return Holds.DISAGREE if min(high.values) <= max(low.values) else Holds.MODELS


def adjusted(claims: Sequence[Claim]) -> list[Claim]:
    """With p-values over seeds that hold false discoveries among them to RATE (Benjamini and Hochberg)."""
    known = [claim for claim in claims if claim.of_architectures]
    p = iter(false_discovery_control([claim.seeds.p for claim in known]) if known else ())
    return [replace(claim, p=float(next(p))) if claim.of_architectures else claim for claim in claims]


def few(a: Side, b: Side) -> bool:
    """Has one of them fewer seeds than a word on architectures needs?"""
    return min(len(a.values), len(b.values)) < ENOUGH
