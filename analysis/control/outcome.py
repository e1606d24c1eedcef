"""What a sweep with gradients has found, and what it says of itself in captions and manifests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.control.pilot import Kind
from analysis.display.format import count, listed, percent
from analysis.stats.intervals import Array

LIMITS = (
    "What no method sees is a document whose loss rises as no gradient tells and of whose kind none is among those that are swept: "
    "then these intervals are too narrow, as plain ones are."
)


@dataclass(frozen=True)
class Outcome:
    """The tidy table, and the sums per document of the sweep behind it."""

    table: pd.DataFrame
    sums: dict[str, Array]
    estimates: Array  # (ablations,) of delta_nll with gradients; NaN where the plain one stands
    kinds: Mapping[str, Kind]
    swept: int  # documents
    documents: int  # with gradients
    point: float  # share of what it does that every part adds where the gradient is taken
    plain: str  # why gradients are used for no kind; empty: they are for some
    sized: Sequence[str] = ()  # kinds of which the size of what a part adds is used too

    @property
    def rises(self) -> Array:
        """Sums of the rise in loss per document (ablations - 1, D), moved so that their mean over tokens is the estimate."""
        sums, tokens = self.sums["nll"][1:] - self.sums["nll"][0], self.sums["tokens"]
        moved = np.nan_to_num(self.estimates[1:] - sums.sum(-1) / tokens.sum())
        return sums + moved[:, None] * tokens

    @property
    def controlled(self) -> list[str]:
        """The kinds that gradients are used for."""
        return [] if self.plain else [kind for kind, found in self.kinds.items() if not found.plain]

    @property
    def sentence(self) -> str:
        """For captions and beside tables."""
        if self.plain:
            return f"Intervals are of the {count(self.swept, 'swept document')} alone: {self.plain}."
        parts = [f"{percent(self._left(kind))} for {kind.replace('_', ' ')}" for kind in self.controlled]
        others = [f"{kind} {found.plain}" for kind, found in self.kinds.items() if found.plain]
        plain = f" Plain intervals: {'; '.join(others)}." if others else ""
        sizes = f" For {listed(self.sized)} the size of what they add is a second covariate." if self.sized else ""
        return (
            f"Control variates: {count(self.swept, 'document')} swept, gradients on {count(self.documents, 'document')}; of the variance "
            f"between documents they leave {listed(parts)} (median), with residuals up to {self._residual():.1f} MADs (median)."
            f"{sizes}{plain}"
        )

    @property
    def caption(self) -> str:
        """What stands under a figure; empty where gradients are used for nothing."""
        swept, gradients = count(self.swept, "document"), count(self.documents, "document")
        return f"Estimated with control variates: {swept} swept, gradients on {gradients}." if self.controlled else ""

    @property
    def intervals(self) -> str:
        """How the intervals of what gradients are used for are made, as a table of facts says it."""
        if self.plain:
            return ""
        return f"; of {listed(self.controlled)} by regression on gradients ({self.documents} documents), Student's t, HC3"

    def to_json(self) -> dict[str, Any]:
        kinds = {kind: found._asdict() for kind, found in self.kinds.items()}
        return {
            "swept": self.swept,
            "gradients": self.documents,
            "point": self.point,
            "sized": list(self.sized),
            "plain": self.plain,
            "pilot": kinds,
        }

    def _of(self, kind: str, metric: str) -> pd.Series:
        return self.table[(self.table["kind"] == kind) & (self.table["metric"] == metric)]["value"]

    def _left(self, kind: str) -> float:
        return float(self._of(kind, "variance_left").median())

    def _residual(self) -> float:
        return float(pd.concat([self._of(kind, "largest_residual") for kind in self.controlled]).median())
