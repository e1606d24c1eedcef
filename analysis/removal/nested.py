"""Removal paths: parts in an order, and the nested sets that it gives."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from operator import or_

import numpy as np

from adapters.ablation import NONE, Ablation
from analysis.stats.intervals import Array

POINTS = 12  # of a path are scored, at most


def order(parts: Sequence[Ablation], importance: Array, cost: Array) -> list[Ablation]:
    """The parts from the least harm per unit of cost on; of equal ones the first comes first."""
    return [parts[i] for i in np.argsort(importance / cost, kind="stable")]


def nested(ordered: Sequence[Ablation], shares: Array, limit: float, points: int = POINTS) -> list[Ablation]:
    """Sets of the first parts, each holding the one before, up to the first whose share of the cost reaches `limit`.

    `shares` (parts,): what each part takes of the whole. At most `points` sets, spread evenly.
    """
    sets = list(accumulate(ordered, or_, initial=NONE))
    most = min(len(ordered), int(np.searchsorted(np.cumsum(shares), limit - 1e-9)) + 1)
    return [sets[k] for k in np.unique(np.linspace(1, most, min(most, points)).round().astype(int))]
