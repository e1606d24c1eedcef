"""How redundant a model is in one number: from what each block costs alone, or from what a removal path costs.

Losses are shares of the model's gain over unigram over a byte unigram: 0 is the dense model, 1 is no better than the unigram.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from adapters.specs import ModelSpec
from analysis.display.format import bounded
from analysis.stats import estimates
from analysis.stats.bootstrap import Array
from analysis.stats.estimates import Estimate
from analysis.stats.intervals import Interval
from analysis.stats.rank_agreement import Scores

LIMIT = 0.1  # of the gain over unigram: what a removal may cost


def effective_number(losses: Array) -> Array:
    """Over how many of the last axis the losses are spread: exp of the entropy of their shares (Hill, 1973, order 1).

    1 when one holds all, n when all are alike. A part whose removal lowers the loss counts as one that costs nothing;
    NaN where none costs anything.
    """
    shares = _shares(losses)
    return np.exp(-(shares * np.log(np.where(shares > 0, shares, 1))).sum(-1))


def effective_share(losses: Array) -> Array:
    """`effective_number` as a share of the parts: models of unequal depth can be compared."""
    return effective_number(losses) / losses.shape[-1]


def gini(losses: Array) -> Array:
    """0 when all losses are alike, 1 - 1/n when one part holds all (Gini, 1912); negative losses as in `effective_number`."""
    shares, n = np.sort(_shares(losses), axis=-1), losses.shape[-1]
    return (shares * (2 * np.arange(1, n + 1) - n - 1)).sum(-1) / n


def removable(path: Array, most: float = LIMIT) -> Array:
    """The share of parts that can go together for at most `most`, up to the first set that costs more.

    `path` (..., n): losses without the first 1 to n parts. Between whole parts it is read off the line that joins them: whole parts
    would favour models of many, and seeds would often be exactly alike.
    """
    curve, n = _from_dense(path), path.shape[-1]
    over = ~(curve <= most)  # what is not known is not free
    end = np.where(over.any(-1), over.argmax(-1), n)[..., None]  # at least 1: nothing is lost with every part
    low, high = (np.take_along_axis(curve, end - back, axis=-1)[..., 0] for back in (1, 0))
    between = np.divide(most - low, high - low, out=np.ones_like(low), where=over.any(-1))
    return (end[..., 0] - 1 + between) / n


def area(path: Array) -> Array:
    """Area under the removal curve, from no part to all: 0 if nothing is ever lost, near 1 if all is lost at once.

    What does worse than the unigram counts as 1. Trapezoids between the points of `path` (..., n), and (0, 0).
    """
    return np.trapezoid(_from_dense(path), dx=1 / path.shape[-1], axis=-1)


def _from_dense(path: Array) -> Array:
    """With every part, and without the first 1 to n: (..., n + 1); what is worse than the unigram is 1."""
    return np.concatenate([np.zeros_like(path[..., :1]), path.clip(max=1)], axis=-1)


def costliest(losses: Array) -> Array:
    """What the part costs that costs most."""
    return losses.max(-1)


def others(losses: Array) -> Array:
    """What the parts cost beside the costliest: their median."""
    return np.median(np.sort(losses, axis=-1)[..., :-1], axis=-1)


def together(both: Array) -> Array:
    """How many times as much the first half of a path costs together as its parts cost alone.

    `both` (..., 2 n): what each part of the path costs alone, in its order, and then the path.
    """
    n = both.shape[-1] // 2
    return _over(both[..., n + n // 2 - 1], both[..., : n // 2].sum(-1))


def against(rises: Array) -> Array:
    """What blocks cost more than heads where as many parameters go; `rises` (..., 2): of blocks, of heads."""
    return rises[..., 0] - rises[..., 1]


def _over(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def _shares(losses: Array) -> Array:
    costs = losses.clip(min=0)
    total = costs.sum(-1, keepdims=True)
    return np.divide(costs, total, out=np.full_like(costs, np.nan), where=total > 0)


class Summary(NamedTuple):
    title: str
    short: str
    of: Callable[[Array], Array]
    source: str  # of losses, as `analysis.comparison.study.Measured.shares` names them
    higher: str  # what can be said of {}, the model that has more of it
    asks: str = ""  # the question that it answers; without one it is in tables alone
    unit: str = ""  # of UNITS, in which it is said; a plain number without one
    redundant: int = 0  # 1 where more of it is more redundant, -1 where less is, 0 where it says nothing of that
    cheaper: tuple[str, str] | None = None  # which side is, where it is above zero and below


class Unit(NamedTuple):
    """How a summary is said: as a number of parts, per cent of the gain, or times."""

    words: str  # behind the number; {} is how many parts there are
    apart: str  # behind a difference
    per: Callable[[ModelSpec], float]  # what it is multiplied by
    parts: bool = False  # is it from none of them to all?

    def written(self, value: Interval, n: float = 1) -> str:
        """As a number with its interval, without `of`; `n`: what `per` gives."""
        cut = value.within(0, 1) if self.parts else value
        return bounded(Interval(*(None if x is None else x * n for x in cut)))  # type: ignore[arg-type]

    def of(self, spec: ModelSpec) -> str:
        return self.words.format(f"{self.per(spec):,g}")

    def amount(self, value: Interval, spec: ModelSpec) -> str:
        return self.written(value, self.per(spec)) + self.of(spec)


SHARE_OF_PARTS = Unit("\u00a0% of them", "\u00a0points", lambda spec: 100, parts=True)  # of models with unequal numbers of parts
UNITS = {
    "": Unit("", "", lambda spec: 1),
    "blocks": Unit(" of {} blocks", " blocks", lambda spec: len(spec.blocks), parts=True),
    "heads": Unit(" of {} heads", " heads", lambda spec: sum(block.n_heads or 0 for block in spec.blocks), parts=True),
    "gain": Unit("\u00a0% of the gain", "\u00a0points", lambda spec: 100),
    "times": Unit(" times", "", lambda spec: 1),
}

SUMMARIES = {
    "removable": Summary(
        "share of removable blocks",
        "removable",
        removable,
        "path",
        "a larger share of the blocks of {} is removable",
        "How many blocks can go together for a tenth of the gain?",
        "blocks",
        1,
    ),
    "effective": Summary(
        "effective share of blocks",
        "effective share",
        effective_share,
        "blocks",
        "the loss of {} is spread over a larger share of its blocks",
        "Over how many blocks is the loss of single removals spread?",
        "blocks",
        -1,
    ),
    "gini": Summary(
        "Gini coefficient",
        "Gini",
        gini,
        "blocks",
        "the loss of {} is concentrated in fewer of its blocks",
        redundant=1,
    ),
    "area": Summary(
        "area under the removal curve",
        "area",
        area,
        "path",
        "{} loses more as blocks are removed",
        "How much is lost as blocks are removed, on average up to the last?",
        "gain",
        -1,
    ),
    "costliest": Summary(
        "loss without the costliest block",
        "costliest",
        costliest,
        "blocks",
        "{} loses more with its costliest block",
        "What does the costliest block cost?",
        "gain",
    ),
    "others": Summary(
        "median loss without any other block",
        "others",
        others,
        "blocks",
        "{} loses more with the median of its other blocks",
        "What does any other block cost (median)?",
        "gain",
    ),
    "together": Summary(
        "cheaper half of the blocks: together over alone",
        "together",
        together,
        "both",
        "what blocks of {} cost together exceeds by more what they cost alone",
        "How many times as much does the cheaper half of the blocks cost together as alone?",
        "times",
    ),
    "heads": Summary(
        "effective share of heads",
        "heads",
        effective_share,
        "heads",
        "the loss of {} is spread over a larger share of its heads",
        "Over how many heads is the loss of single removals spread?",
        "heads",
        -1,
    ),
    "against": Summary(
        "loss of blocks minus that of heads of as many parameters",
        "depth over width",
        against,
        "against",
        "blocks cost more beside heads in {}",
        "Is depth or width cheaper, for a tenth of the blocks' parameters? (the loss of blocks minus that of heads)",
        "gain",
        cheaper=("width", "depth"),
    ),
}


def estimate(of: Callable[[Array], Array], scores: Scores, *, steps: bool = False, seed: int = 0) -> Estimate:
    """`of` the means of `scores` (..., items) over documents; `steps`: does it take few values?

    NaN when the divisor is not positive: a model without a gain has no share of it to lose.
    """
    n = len(scores.tokens)
    if scores.tokens.sum() <= 0:
        return Estimate(np.nan, np.zeros(0), n)
    return estimates.estimate(lambda draw: of(scores.means(draw)), n, steps=steps, seed=seed)
