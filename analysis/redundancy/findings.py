"""What was found about the redundancy of one model, as numbers: conclusions and the first page of a report are made from these alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from analysis.display.sentences import too_few
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, Interval
from analysis.stats.rank_agreement import chance

PARAMETERS, FLOPS = "block parameters", "FLOPs"  # measures of `analysis.removal.savings`


@dataclass(frozen=True)
class AtEqual:
    """The rise in loss (nats per token) without blocks and without heads that save the same share."""

    measure: str  # of `analysis.removal.savings`
    share: float
    depth: Interval  # without blocks
    width: Interval  # without heads
    significant: bool  # do the two differ?

    @property
    def cheaper(self) -> str:
        """`depth` or `width`; empty where the two do not differ significantly."""
        return "" if not self.significant else "depth" if self.depth.value < self.width.value else "width"


class Range(NamedTuple):
    """From one share to another, by all that was compared, this is significantly cheaper."""

    cheaper: str
    low: float
    high: float
    first: bool  # does it begin where the comparison begins?


@dataclass(frozen=True)
class Findings:
    """One model on some documents. What was not measured is None, and `missing` says why."""

    model: str
    architecture: str  # `ModelSpec.architecture`
    n_blocks: int
    corpus: str
    n_documents: int
    window: int  # tokens
    gain: Interval | None = None  # over a byte unigram, in bits per byte
    effective: Interval | None = None  # number of effective blocks
    removable: Interval | None = None  # blocks that can go together for LIMIT of the gain
    measured_up_to: float = 0  # blocks removed
    influence: Interval | None = None  # Kendall's tau of Block Influence with the rise in loss
    heads: tuple[int, int] | None = None  # that cost something significantly, of how many
    against: tuple[AtEqual, ...] = ()  # depth against width
    missing: dict[str, str] | None = None  # why, by the name of a field

    @property
    def lacking(self) -> str:
        """Why nothing can be said of redundancy; empty where it can: a model that has learned nothing has nothing to lose."""
        if self.n_documents < MIN_DOCUMENTS_FOR_CI:
            return too_few(self.n_documents)
        if self.gain is None:
            return self.why("gain")
        if self.gain.value <= 0:
            return "it predicts the text no better than the frequencies of single bytes do"
        return "" if self.gain.low is not None and self.gain.low > 0 else "its gain over a byte unigram is not significant"

    def why(self, field: str) -> str:
        """The reason why something was not measured."""
        return (self.missing or {}).get(field, "it was not measured")

    @property
    def knows(self) -> bool | None:
        """Does Block Influence order the blocks as the loss does? None where that is not known.

        As in `analysis.display.sentences.agreement_sentence`, other documents and a random order must not explain it.
        """
        tau = self.influence
        if self.lacking or tau is None or tau.low is None or tau.high is None:
            return None
        return tau.low > 0 and chance(tau.value, self.n_blocks) <= 0.05

    def ranges(self, measure: str = PARAMETERS) -> list[Range]:
        """Where depth is significantly cheaper than width, or width than depth, in ascending order of what is saved."""
        points = sorted((p for p in self.against if p.measure == measure), key=lambda p: p.share)
        runs = [(name, list(run)) for name, run in groupby(points, key=lambda p: p.cheaper)]
        return [Range(name, run[0].share, run[-1].share, run[0] is points[0]) for name, run in runs if name]


def merged(found: Sequence[Findings]) -> list[Findings]:
    """One for each model: the one that knows most of what the first page says; of equals the first."""

    def known(f: Findings) -> int:
        return sum(thing is not None for thing in (f.removable, f.influence, f.effective)) + bool(f.against)

    best: dict[str, Findings] = {}
    for f in found:
        if f.model not in best or known(f) > known(best[f.model]):
            best[f.model] = f
    return list(best.values())
