"""What a few documents that nothing is estimated with say beforehand: where gradients narrow intervals, and on how many documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, sqrt
from typing import NamedTuple

import numpy as np

from adapters.ablation import Ablation
from adapters.specs import ModelSpec
from analysis.engine.ablations import row_key
from analysis.engine.plan import Plan
from analysis.stats.control_variates import RESIDUAL, Controlled
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI

DOCUMENTS = MIN_DOCUMENTS_FOR_CI  # of a pilot
SAMPLED = 8  # parts of each kind that it takes out
FEW, MOST_OF_FEW, MOST = 24, 5, 20  # documents with gradients to one that is swept, below FEW and from there: as far as was simulated
WORTH = 1.1  # gradients that save less of the time to the same interval are not taken
FAR = 1e6  # MADs, of a residual beside others that are all zero
PASSES, SIZES = 3, 1  # of a forward pass: for one forward and one back; for sizes


class Kind(NamedTuple):
    """The parts of one kind, by medians over those that a pilot took out."""

    left: float  # share of the variance between documents that the gradient leaves
    residual: float  # the largest, in MADs
    plain: str = ""  # why its intervals are those of the swept documents alone; empty: they are not


def sampled(spec: ModelSpec, ablations: Sequence[Ablation]) -> list[Ablation]:
    """Of each kind SAMPLED ablations, from the first block to the last.

    Backwards, so that no pilot is the question that a sweep asks, and takes the place of its documents in the manifest.
    """
    found: list[Ablation] = []
    for group in by_kind(spec, ablations).values():
        found += [ablations[group[i]] for i in sorted({round(x) for x in np.linspace(0, len(group) - 1, SAMPLED)}, reverse=True)]
    return found


def by_kind(spec: ModelSpec, ablations: Sequence[Ablation]) -> dict[str, list[int]]:
    """Indices of ablations by their kind."""
    groups: dict[str, list[int]] = {}
    for i, ablation in enumerate(ablations):
        groups.setdefault(row_key(spec, ablation).kind, []).append(i)
    return groups


def price(plan: Plan, sized: bool = False) -> float:
    """What the gradients of a document cost, and sizes with them, of what sweeping it does."""
    return (PASSES + SIZES * sized) * plan.spec.flops_per_token / plan.flops_per_token


def enough(left: float, price: float, swept: int) -> int:
    """Documents with gradients for so many that are `swept`: with N = n sqrt((1 - v) / (v q)) the variance that a second buys is least.

    v is the share of the variance that is `left`, q the `price`. At least the swept ones.
    """
    best = sqrt(max(0.0, 1 - left) / (left * price)) if left > 0 else MOST
    return ceil(swept * min(max(best, 1), MOST if swept >= FEW else MOST_OF_FEW))


def gain(left: float, price: float, swept: int, documents: int) -> float:
    """How many times as long a sweep alone takes to the same width."""
    return 1 / ((left + (1 - left) * swept / documents) * (1 + price * documents / swept))


def judged(found: Controlled, groups: Mapping[str, Sequence[int]]) -> dict[str, Kind]:
    """What a pilot's estimates say of each kind, by its rows of them: nothing for a kind whose documents do not lie about a line."""
    kinds = {}
    for kind, rows in groups.items():
        parts = np.nan_to_num([column[list(rows)] for column in (found.left, found.residual)], nan=1, posinf=FAR)  # NaN: of no effect
        left, residual = np.median(parts, -1).tolist()
        off = f"have residuals of {residual:.1f} MADs, beyond {RESIDUAL}" if residual > RESIDUAL else ""
        kinds[kind] = Kind(left, residual, off or "have losses that gradients do not go with" * (left >= 1))
    return kinds
