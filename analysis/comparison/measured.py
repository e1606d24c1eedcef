"""What was measured of the models of a comparison: losses of removals on the same bytes, and summaries of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from adapters.ablation import Ablation
from adapters.specs import ModelSpec
from analysis.comparison.redundancy import SUMMARIES, estimate
from analysis.data.batches import Text
from analysis.stats.estimates import Estimate
from analysis.stats.intervals import Array
from analysis.stats.rank_agreement import Scores
from analysis.zoo.groups import Group

UNITS = {"bits": "bits per byte", "share": "share of the gain"}  # of a loss: absolute, and relative to the gain over unigram


class Rises(NamedTuple):
    """What removals cost on held-out text: bits more than the dense model, of each ablation and document (ablations, D)."""

    ablations: tuple[Ablation, ...]
    bits: Array


@dataclass(frozen=True)
class Measured:
    """Results of one model."""

    name: str
    spec: ModelSpec
    computed: str  # in which dtype and on what
    singles: dict[str, Rises]  # by kind; heads only where there are heads and time for them
    path: Rises  # without the first 1 to n blocks, cheapest first on calibration text
    dense: Array  # (D,) bits, of the same bytes for every model
    unigram: Array  # (D,) bits of a byte unigram
    bytes: Array  # (D,)
    bi: Scores  # Block Influence on calibration text
    heads: str  # why there are no heads; empty where there are
    against: Rises | None = None  # blocks, and heads, of SHARE of the blocks' parameters; None where they were not removed
    divergence: Mapping[str, Scores] = field(default_factory=dict)  # nats per token from the dense model, by kind, as `singles`
    influence: Mapping[str, Scores] = field(default_factory=dict)  # Block Influence by kind; blocks are `bi`
    in_heads: float = math.nan  # the share of the blocks' parameters that all heads hold; NaN where they were not removed

    def losses(self, rises: Rises, unit: str) -> Scores:
        """Rises over bytes, or over the model's gain over the byte unigram."""
        return Scores(rises.bits, self.bytes if unit == "bits" else self.gain_over_unigram)

    @property
    def gain_over_unigram(self) -> Array:
        """Bits that the model saves against the unigram, by document."""
        return self.unigram - self.dense

    @property
    def shares(self) -> dict[str, Scores]:
        """Losses as shares of the gain over unigram, as far as they were measured; what `Summary.source` names."""
        found: dict[str, Rises] = {kind: self.singles[kind] for kind in ("blocks", "heads") if kind in self.singles}
        found |= {"path": self.path, "both": self._both} | ({"against": self.against} if self.against else {})
        return {name: self.losses(rises, "share") for name, rises in found.items()}

    @property
    def in_one_block(self) -> float:
        """The share of what single blocks cost that the costliest holds, where that is the last to go; 0 where it is not."""
        costs = self.singles["blocks"].bits.sum(-1).clip(min=0)
        before = self.path.ablations[-2].blocks if len(self.path.ablations) > 1 else frozenset()
        last = self.path.ablations[-1].blocks - before
        return float(costs.max() / costs.sum()) if last == {int(costs.argmax())} and costs.any() else 0.0

    @property
    def _both(self) -> Rises:
        """Single blocks in the order of the path, and the path."""
        before = [Ablation(), *self.path.ablations]
        order = [next(iter(b.blocks - a.blocks)) for a, b in pairwise(before)]
        return Rises(self.path.ablations, np.concatenate([self.singles["blocks"].bits[order], self.path.bits]))

    @cached_property
    def summaries(self) -> dict[str, Estimate]:
        """By name, as in SUMMARIES; those for which something was measured."""
        shares = self.shares
        return {name: estimate(s.of, shares[s.source]) for name, s in SUMMARIES.items() if s.source in shares}


@dataclass(frozen=True)
class Compared:
    """Results of several models on the same bytes, and which of them differ in their seed alone."""

    models: list[Measured]
    groups: list[Group]
    text: Text
    calibration: Text
