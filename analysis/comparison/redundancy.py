"""How redundant a model is in one number: from what each block costs alone, or from what a removal path costs.

Losses are shares of the model's gain over unigram over a byte unigram: 0 is the dense model, 1 is no better than the unigram.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from analysis.stats import estimates
from analysis.stats.bootstrap import Array
from analysis.stats.estimates import Estimate
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


def removable(path: Array) -> Array:
    """The share of parts that can go together for at most LIMIT; `path` (..., n): losses without the first 1 to n parts."""
    return np.logical_and.accumulate(path <= LIMIT, axis=-1).mean(-1)


def area(path: Array) -> Array:
    """Area under the removal curve, from no part to all: 0 if nothing is ever lost, near 1 if all is lost at once.

    What does worse than the unigram counts as 1. Trapezoids between the points of `path` (..., n), and (0, 0).
    """
    curve = np.concatenate([np.zeros_like(path[..., :1]), path.clip(max=1)], axis=-1)
    return np.trapezoid(curve, dx=1 / path.shape[-1], axis=-1)


def _shares(losses: Array) -> Array:
    costs = losses.clip(min=0)
    total = costs.sum(-1, keepdims=True)
    return np.divide(costs, total, out=np.full_like(costs, np.nan), where=total > 0)


class Summary(NamedTuple):
    title: str
    short: str
    of: Callable[[Array], Array]
    path: bool  # of a removal path, else of single blocks
    higher: str  # what can be said of {}, the model that has more of it
    redundant: int  # 1 where more of it is more redundant, -1 where less is
    steps: bool = False  # does it count whole blocks?


SUMMARIES = {
    "removable": Summary("share of removable blocks", "removable", removable, True, "more blocks of {} are removable", 1, steps=True),
    "effective": Summary(
        "effective share of blocks", "effective share", effective_share, False, "the loss of {} is spread over more of its blocks", -1
    ),
    "gini": Summary("Gini coefficient", "Gini", gini, False, "the loss of {} is concentrated in fewer of its blocks", 1),
    "area": Summary("area under the removal curve", "area", area, True, "{} loses more as blocks are removed", -1),
}


def estimate(of: Callable[[Array], Array], scores: Scores, *, steps: bool = False, seed: int = 0) -> Estimate:
    """`of` the means of `scores` (..., items) over documents.

    NaN when the divisor is not positive: a model without a gain has no share of it to lose.
    """
    n = len(scores.tokens)
    if scores.tokens.sum() <= 0:
        return Estimate(np.nan, np.zeros(0), n)
    return estimates.estimate(lambda draw: of(scores.means(draw)), n, steps=steps, seed=seed)
