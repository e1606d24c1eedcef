"""Depth against width: what the loss pays where blocks, mixers, ffns, heads or experts save as much (the paper compares shapes by eye)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil

import pandas as pd

from adapters.ablation import Ablation
from adapters.base import BlockModel
from adapters.specs import ModelSpec
from analysis.data.batches import Text
from analysis.display.format import bounded, count, listed, percent
from analysis.display.removal_plots import Panel, distinct
from analysis.display.result import Result, read
from analysis.display.sentences import NUMBERED
from analysis.engine.ablations import block_kinds, single_ablations
from analysis.engine.plan import plan
from analysis.removal.explored import Explored, Paths, explored
from analysis.removal.paths import Scored, up_to
from analysis.removal.savings import MEASURES, Comparison, Curve, by_heads, compare, measures
from analysis.runs.budgets import Takes
from analysis.runs.settings import RunConfig
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI
from analysis.width.head_orders import NAMES, Removals
from analysis.width.sentences import cheapest_kind, depth_or_width
from analysis.width.study import gradients_flops

SHARES = (0.05, 0.10, 0.25)  # of what is saved, at which kinds are compared
LIMIT, POINTS = 0.3, 12  # of the blocks' parameters go along a path, in at most so many steps
ORDER_OF_KINDS, PATHS_OF_KINDS = "order of all parts", "sets of all parts"  # what is scored, by name
ORDER, PATHS = 0.25, 0.25  # of the budget's time: causal orders of all kinds, and the paths


@dataclass(frozen=True)
class DepthWidth(Result):
    """Removal paths of one model by kind."""

    model: BlockModel
    text: Text
    calibration: Text
    order: str  # by which importance parts are removed, as in `removals.NAMES`
    scored: Scored  # paths by kind
    ordered: dict[str, list[Ablation]]  # all parts of each kind, those first that are removed first

    @property
    def n_documents(self) -> int:
        return self.text.documents

    @property
    def measured(self) -> dict[str, str]:
        """What was measured and on what."""
        reach = {kind: percent(curve.shares["block parameters"][-1]) for kind, curve in self.curves.items()}
        documents = count(self.calibration.documents, "document")
        more = ", of heads with gradients on more" * (self.order == "causal" and "heads" in self.kinds)
        return {
            "Order": f"{NAMES[self.order]} of each part alone, on calibration text ({documents}{more}): "
            "the least harm for what is saved first",
            "Losses": read(self.text, "held-out", self.n_documents),
            "Reach": "; ".join(f"{kind} up to {share} of the blocks' parameters" for kind, share in reach.items()),
            "Saved": f"{by_heads(self.model)}; "
            "FLOPs per token, with the unembedding, without what grows with the context or is done with states",
            "Between points": "linear interpolation between neighbouring sets, document by document",
            "Significance": "t-test of the paired difference over documents; false discoveries held to 5\u00a0% over all pairs per measure",
        }

    @cached_property
    def curves(self) -> dict[str, Curve]:
        """By kind."""
        return {kind: self.scored.curve(kind) for kind in self.kinds}

    @property
    def kinds(self) -> dict[str, str]:
        """With their titles in figures."""
        return {kind: kind for kind in self.scored.paths}

    @property
    def titles(self) -> dict[str, str]:
        """Of the paths, where other orders stand beside them."""
        return {kind: f"{kind} by {NAMES[self.order]} of each alone" for kind in self.kinds}

    @cached_property
    def explored(self) -> Explored:
        """Everything that was measured."""
        return explored(self.model, paths=[Paths(self.scored, self.titles, self.text)])

    @property
    def removed(self) -> str:
        """What is removed; Markdown."""
        return listed(self.kinds, "or")

    @cached_property
    def losses(self) -> pd.DataFrame:
        """As `Scored.table`, by kind."""
        return self.scored.table(list(self.kinds))

    @property
    def panels(self) -> list[Panel]:
        return distinct(self.losses, [Panel(measure, f"{measure} saved", tuple(self.kinds)) for measure in measures(self.model.spec)])

    @cached_property
    def comparisons(self) -> list[Comparison]:
        return compare(self.curves, measures(self.model.spec), SHARES)

    @cached_property
    def table(self) -> pd.DataFrame:
        """The depth-width table: rise in loss by kind wherever as much is saved, and which kind is cheapest."""
        rows = []
        for c in self.comparisons:
            first = c.verdict.leaders[0] if c.verdict else ""
            more = [kind for kind in c.rises if frozenset((first, kind)) in c.differing]
            rises = {kind: bounded(c.rises[kind]) if kind in c.rises else self._missing(kind, c) for kind in self.kinds}
            rows.append(
                {
                    "saved": c.at,
                    **rises,
                    "least": first,
                    "significantly less than": ", ".join(more) or "none",
                }
            )
        return pd.DataFrame(rows)

    def _missing(self, kind: str, c: Comparison) -> str:
        """Why there is no loss of a kind."""
        return "one saves more" if self.curves[kind].shares[c.measure][1] > c.share else "too little can be saved"

    @cached_property
    def conclusion(self) -> str:
        """Which kind is cheapest where the blocks' parameters count, and whether depth or width is by any measure."""
        first = [c for c in self.comparisons if c.measure == next(iter(MEASURES))]
        sentences = [cheapest_kind(c, n_documents=self.n_documents) for c in first]
        sentences += [depth_or_width(self.comparisons, kind, n_documents=self.n_documents) for kind in NUMBERED if kind in self.kinds]
        return "\n\n".join(sentences)


def kinds_of(spec: ModelSpec) -> list[str]:
    """The kinds of parts that a model has."""
    return [*block_kinds(spec), *["heads"] * spec.has_heads, *["experts"] * spec.has_experts]


def takes(spec: ModelSpec) -> Takes:
    """Orders of all kinds of parts on calibration text, and the sets of each."""
    kinds = kinds_of(spec)
    sets = sum(min(POINTS, ceil(LIMIT * len(single_ablations(spec, [kind])))) for kind in kinds)
    together = (block_kinds(spec), *([kind] for kind in kinds if kind in NUMBERED))
    orders: float = sum(plan(spec, single_ablations(spec, some)).flops_per_token for some in together)
    orders += gradients_flops(spec) if spec.has_heads else 0
    passes = {ORDER_OF_KINDS: orders, "importance of all parts": 4.0 * spec.flops_per_token}
    return Takes({**passes, PATHS_OF_KINDS: sets * (1 - LIMIT / 2) * spec.flops_per_token}, 2, {ORDER_OF_KINDS: ORDER})


def depth_width(model: BlockModel, config: RunConfig) -> DepthWidth:
    """Orders parts of every kind on calibration text and removes them in this order on held-out text.

    All kinds are ordered by the same importance, so that none has the better
    order: by what each part costs alone when the budget holds these sweeps, else by Taylor.
    """
    removals = Removals(model, config.within(model))
    kinds = kinds_of(model.spec)
    held_out, calibration = removals.texts(config.documents or MIN_DOCUMENTS_FOR_CI)
    causal = removals.limited(ORDER).causal(kinds, calibration)
    scores = causal or {kind: found["taylor"] for kind, found in removals.metrics(kinds, ["taylor"], calibration).items()}
    ordered = {kind: removals.ordered(kind, scores[kind]) for kind in kinds}
    paths = {kind: up_to(parts, removals.shares(parts, "block parameters"), LIMIT, POINTS) for kind, parts in ordered.items()}
    scored, text = removals.limited(PATHS).paths("depth and width", paths, held_out)
    return DepthWidth(model, text, calibration, "causal" if causal else "taylor", scored, ordered)
