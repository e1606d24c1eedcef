"""Removal paths scored on held-out text: the loss after each removal, beside what it saves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from operator import or_

import numpy as np
import pandas as pd

from adapters.ablation import NONE, Ablation
from adapters.base import BlockModel
from analysis.removal.savings import MEASURES, Curve, Saved, saved
from analysis.runs.tables import tidy
from analysis.stats.intervals import Array, Interval, ratio

RemovalPath = tuple[Ablation, ...]  # what is out, by the number of parts that are

COLUMNS = ["order", "removed", "out", *MEASURES, "value", "ci_low", "ci_high", "n_documents", "n_tokens"]


def nested(parts: Iterable[Ablation | int]) -> RemovalPath:
    """The sets that an order of parts gives, the empty one first; a number is a block."""
    return tuple(
        accumulate((part if isinstance(part, Ablation) else Ablation(blocks=frozenset({part})) for part in parts), or_, initial=NONE)
    )


def up_to(ordered: Sequence[Ablation], shares: Array, limit: float, points: int) -> RemovalPath:
    """The nested sets of the parts up to the first whose share of the whole reaches `limit`: none, and at most `points` of the others.

    `shares` (parts,): of each part.
    """
    most = min(len(ordered), int(np.searchsorted(np.cumsum(shares), limit - 1e-9)) + 1)
    return (NONE, *thinned(nested(ordered)[1 : most + 1], points))


def cheapest_first(parts: Sequence[Ablation], harm: Array, cost: Array) -> list[Ablation]:
    """The parts in ascending order of harm per unit of cost; of equal ones the first comes first."""
    return [parts[i] for i in np.argsort(harm / cost, kind="stable")]


def thinned(path: RemovalPath, points: int) -> RemovalPath:
    """At most `points` of a path's sets, spread evenly; the first and the last stay."""
    return tuple(path[i] for i in np.unique(np.linspace(0, len(path) - 1, min(points, len(path))).round().astype(int)))


def union(paths: Mapping[str, RemovalPath]) -> list[Ablation]:
    """Every set of any path, once."""
    return list(dict.fromkeys(ablation for path in paths.values() for ablation in path))


@dataclass(frozen=True)
class Scored:
    """Losses of all sets of some paths, as sums per document."""

    model: BlockModel
    paths: dict[str, RemovalPath]  # what was scored of each
    nll: dict[Ablation, Array]  # (documents,)
    tokens: Array
    bytes: Array = field(default_factory=lambda: np.zeros(0))  # (documents,) of the scored tokens; empty where nobody asked

    def rise(self, ablation: Ablation, base: Ablation = NONE) -> Interval:
        """Of the loss over that of `base`, in nats per token, paired over documents."""
        return ratio(self.nll[ablation] - self.nll[base], self.tokens)

    @cached_property
    def costs(self) -> dict[Ablation, Saved]:
        return {ablation: saved(self.model, ablation) for ablation in self.nll}

    def share(self, measure: str, ablation: Ablation) -> float:
        """What an ablation saves of the whole, by a measure of `analysis.removal.savings`."""
        return MEASURES[measure](self.model.spec, self.costs[ablation])

    def table(self, names: Sequence[str]) -> pd.DataFrame:
        """One row for each scored set of the named paths: how many parts are out and which, what is saved, the rise in loss."""
        n, tokens = len(self.tokens), int(self.tokens.sum())
        rises = {a: self.rise(a) for a in dict.fromkeys(a for name in names for a in self.paths[name])}
        rows = [
            (name, size(a), str(a), *(self.share(m, a) for m in MEASURES), *rises[a], n, tokens) for name in names for a in self.paths[name]
        ]
        return tidy(rows, COLUMNS)

    def curve(self, name: str) -> Curve:
        """Of one path."""
        path = self.paths[name]
        shares = {measure: np.array([self.share(measure, a) for a in path]) for measure in MEASURES}
        return Curve(shares, np.stack([self.nll[a] for a in path]), self.tokens)

    def steps(self, name: str) -> list[tuple[Ablation, Ablation, Interval]]:
        """Neighbouring scored sets of a path, and the rise from the one to the other."""
        path = self.paths[name]
        return [(a, b, self.rise(b, a)) for a, b in pairwise(path)]


def size(ablation: Ablation) -> float:
    """Blocks that are out; a mixer or an ffn alone is half of one."""
    return len(ablation.blocks) + (len(ablation.mixers) + len(ablation.ffns)) / 2


def score(model: BlockModel, ablations: Sequence[Ablation], sums: Mapping[str, Array], paths: dict[str, RemovalPath]) -> Scored:
    """From the sums of a sweep of `ablations` (SweepStudy.scores)."""
    return Scored(model, paths, dict(zip(ablations, sums["nll"], strict=True)), sums["tokens"], sums["bytes"])
