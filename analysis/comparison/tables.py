"""What each model of a comparison says by itself, as tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from analysis.comparison.measured import UNITS, Compared, Measured
from analysis.comparison.redundancy import LIMIT
from analysis.display.format import bounded, escape, listed, number
from analysis.display.model_lines import bands
from analysis.display.style import architecture
from analysis.engine.ablations import row_key
from analysis.runs.tables import tidy
from analysis.stats.estimates import Estimate
from analysis.stats.intervals import ratio
from analysis.zoo.groups import Group

REMOVABLE = f"blocks that can go for {100 * LIMIT:.0f}\u00a0% of the gain"


@dataclass(frozen=True)
class OfModels:
    """Tables with a line or more of each model."""

    of: Compared

    @property
    def n_documents(self) -> int:
        return len(self.of.models[0].bytes)

    @property
    def names(self) -> str:
        """The models as Markdown."""
        return listed(escape(m.spec.name) for m in self.of.models)

    @property
    def bands(self) -> str:
        """What the bands of a figure are; a sentence for captions."""
        return bands(self.n_documents, any(len(group.members) > 1 for group in self.of.groups))

    @property
    def has_heads(self) -> bool:
        return any("heads" in m.singles for m in self.of.models)

    @cached_property
    def facts(self) -> pd.DataFrame:
        """One line a model: what it is, how well it reads, and its gain over unigram."""
        rows = []
        for m in self.of.models:
            rows.append(
                {
                    "model": m.spec.name,
                    "layout": " ".join(dict.fromkeys((m.spec.family, m.spec.variant))),
                    "blocks": len(m.spec.blocks),
                    "parameters (M)": m.spec.n_params / 1e6,
                    "bits per byte": bounded(ratio(m.dense, m.bytes)),
                    "gain over unigram": bounded(ratio(m.gain_over_unigram, m.bytes)),
                    "trained": "in the zoo" if self._group(m).facts else "elsewhere",
                    "heads": m.heads or len(m.singles["heads"].ablations),
                }
            )
        return pd.DataFrame(rows)

    @property
    def text(self) -> str:
        """What was read, as a sentence."""
        t, some = self.of.text, self.of.models[0]
        computed = ", ".join(sorted({m.computed for m in self.of.models}))
        return (
            f"All models score the same {int(some.bytes.sum()):,} bytes of {self.n_documents} held-out documents of "
            f"{escape(Path(t.corpus).name)}, one window of at most {t.window} tokens each; computed in {computed}. A byte unigram, "
            f"fitted on calibration text, needs {number(some.unigram.sum() / some.bytes.sum())} bits per byte; a model's gain over "
            "unigram is what it saves against that."
        )

    @cached_property
    def losses(self) -> pd.DataFrame:
        """What each single removal costs: model, group, architecture, kind, block, head, depth (0 to 1), unit, value and its interval."""
        rows = []
        for m in self.of.models:
            last = max(1, len(m.spec.blocks) - 1)
            for rises in m.singles.values():
                for unit in UNITS:
                    scores = m.losses(rises, unit)
                    if scores.tokens.sum() <= 0:
                        continue
                    for ablation, bits in zip(rises.ablations, scores.sums, strict=True):
                        kind, block, head, *_ = row_key(m.spec, ablation)
                        rows.append((*self._labels(m), kind, block, head, (block or 0) / last, unit, *ratio(bits, scores.tokens)))
        columns = ["model", "group", "architecture", "kind", "block", "head", "depth", "unit", "value", "ci_low", "ci_high"]
        return tidy(rows, columns)

    @cached_property
    def bi(self) -> pd.DataFrame:
        """Block Influence: columns as `losses`."""
        rows = []
        for m in self.of.models:
            for i, sums in enumerate(m.bi.sums):
                rows.append((*self._labels(m), i / max(1, len(m.bi.sums) - 1), *ratio(sums, m.bi.tokens)))
        return pd.DataFrame(rows, columns=["model", "group", "architecture", "depth", "value", "ci_low", "ci_high"]).astype(
            {"ci_low": float, "ci_high": float}
        )

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Removal curves: model, group, architecture, share of blocks removed, loss as a share of the gain (NaN without one)."""
        rows = []
        for m in self.of.models:
            scores, n = m.losses(m.path, "share"), len(m.path.ablations)
            known = scores.tokens.sum() > 0
            rows.append((*self._labels(m), 0.0, *(3 * [0.0 if known else math.nan])))
            if known:
                rows += [(*self._labels(m), (k + 1) / n, *ratio(bits, scores.tokens)) for k, bits in enumerate(scores.sums)]
        return pd.DataFrame(rows, columns=["model", "group", "architecture", "share", "value", "ci_low", "ci_high"]).astype(
            {"ci_low": float, "ci_high": float}
        )

    @cached_property
    def estimates(self) -> dict[str, dict[str, Estimate]]:
        """Summaries by model."""
        return {m.name: m.summaries for m in self.of.models}

    @cached_property
    def summaries(self) -> pd.DataFrame:
        rows = []
        for m in self.of.models:
            found = self.estimates[m.name]
            n = len(m.spec.blocks)
            rows.append(
                {
                    "model": m.spec.name,
                    f"removable for {LIMIT:.0%} of the gain".replace("%", "\u00a0%"): bounded(
                        (found["removable"] * n).interval.within(0, n)
                    ),
                    "effective blocks": f"{bounded((found['effective'] * n).interval.within(0, n))} of {n}",
                    "Gini": bounded(found["gini"].interval.within(0, 1)),
                    "area": bounded(found["area"].interval.within(0, 1)),
                }
            )
        return pd.DataFrame(rows)

    @property
    def labels(self) -> dict[str, tuple[str, str]]:
        """The group and the architecture of each model, by the model's name in figures."""
        return {name: (group, kind) for name, group, kind in map(self._labels, self.of.models)}

    def _labels(self, m: Measured) -> tuple[str, str, str]:
        return m.spec.name, self._group(m).name, architecture(m.spec.family)

    def _group(self, m: Measured) -> Group:
        return next(group for group in self.of.groups if m.name in group.members)
