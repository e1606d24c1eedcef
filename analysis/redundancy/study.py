"""Redundancy of one model: depth against width, its removal path, and what Block Influence says; from the studies of each question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np
import pandas as pd

from adapters.ablation import NONE
from adapters.base import BlockModel
from adapters.specs import ModelSpec
from analysis.comparison.redundancy import LIMIT, effective_number, estimate
from analysis.control.study import effects_of
from analysis.data.batches import Text
from analysis.data.unigram import unigram_bits
from analysis.depth import study as depth_study
from analysis.depth.findings import redundancy as single_parts
from analysis.depth.study import Depth, depth
from analysis.depth_vs_width import study as depth_vs_width
from analysis.depth_vs_width.study import DepthWidth, depth_width
from analysis.display.format import INTERVALS, count, minutes
from analysis.display.removal_plots import Panel, distinct
from analysis.display.result import Result, read
from analysis.engine.cost import cost, speed
from analysis.pruning.findings import contest
from analysis.redundancy.findings import FLOPS, PARAMETERS, AtEqual, Findings
from analysis.redundancy.sentences import conclusion
from analysis.removal.explored import Explored, Paths, Singles, explored
from analysis.removal.orders import ORDERS, random_order
from analysis.removal.paths import Scored, nested, size, thinned
from analysis.removal.savings import Curve, compare
from analysis.removal.search import find_paths
from analysis.runs.budgets import Takes
from analysis.runs.settings import RunConfig
from analysis.stats.estimates import Estimate
from analysis.stats.intervals import Array, ratio
from analysis.stats.rank_agreement import Scores
from analysis.width.head_orders import Removals
from analysis.width.study import GRADIENTS, HEADS, gradients_flops, heads_flops, single_heads

GRID = tuple(k / 50 for k in range(1, 51))  # shares at which depth and width are compared, as far as both reach
OURS = "nll"  # the order that depth against width removes blocks in: by the loss without each alone
SEARCHED = ("bi", "iterative_bi", "greedy")  # orders that it is held against
REACH, CONTEST = 2 / 3, 1 / 3  # of the blocks go in our order, and in those that it is held against
POINTS, RANDOM = 4, 3  # sets of each of the latter that are scored; random orders
ORDERS_TIME = 0.25  # of the budget's time


@dataclass(frozen=True)
class Redundancy(Result):
    """What the studies of depth, heads, and depth against width found of one model, and removal paths of blocks by order."""

    model: BlockModel
    depth: Depth
    heads: Singles | None  # single heads
    no_heads: str  # why there are none
    against: DepthWidth
    scored: Scored  # sets of blocks by order; that of depth against width among them
    path_text: Text
    skipped: Mapping[str, float]  # seconds of the orders that the budget does not hold
    gain: Array  # (documents,) bits that the model saves against a byte unigram, on the text of the removal paths

    @property
    def n_documents(self) -> int:
        return min(self.depth.n_documents, self.against.n_documents)

    @property
    def measured(self) -> dict[str, str]:
        """What was measured and on what."""
        skipped = "".join(f"; skipped {ORDERS[name].title} (about {minutes(s)})" for name, s in self.skipped.items())
        return {
            "Single blocks and sublayers": read(self.depth.text, "held-out", self.depth.n_documents),
            "Single heads": self.no_heads or f"{int(self._heads['n_documents'].min())} documents",
            "Depth against width": read(self.against.text, "held-out", self.against.n_documents),
            "Removal orders": f"found on {count(self.against.calibration.documents, 'document')} of calibration text{skipped}",
            "Intervals": INTERVALS,
        }

    @property
    def _heads(self) -> pd.DataFrame:
        return pd.DataFrame() if self.heads is None else self.heads.table

    @cached_property
    def titles(self) -> dict[str, str]:
        """Of the orders of blocks."""
        return {name: ORDERS[name].title for name in self.scored.paths if name in ORDERS}

    @property
    def table(self) -> pd.DataFrame:
        """As `Scored.table`, by order."""
        return self.scored.table(list(self.titles))

    @property
    def random(self) -> pd.DataFrame:
        return self.scored.table(self._null)

    @property
    def _null(self) -> list[str]:
        return [name for name in self.scored.paths if name not in ORDERS]

    @property
    def panels(self) -> list[Panel]:
        names = tuple(self.titles)
        return distinct(self.table, [Panel("removed", "blocks removed", names), Panel(PARAMETERS, f"{PARAMETERS} removed", names)])

    @cached_property
    def best_order(self) -> str:
        """By which order removal costs least."""
        return contest(self.scored, list(self.titles), self.titles, self._null)

    @cached_property
    def parts(self) -> str:
        """Which blocks cost something alone, and which heads."""
        said = [single_parts(self.depth.sweep)]
        return "\n\n".join(said if self.heads is None else [*said, single_parts(self.heads.table, "heads")])

    @cached_property
    def findings(self) -> Findings:
        """As plain numbers."""
        dense = ratio(self.gain, self.scored.bytes)
        found = {"effective": self.effective.interval.within(1, self.n_blocks), "removable": self.removable.interval}
        known = {name: interval for name, interval in found.items() if np.isfinite(interval.value)}
        spec, text = self.model.spec, self.against.text
        return Findings(
            spec.name,
            spec.architecture,
            self.n_blocks,
            text.corpus,
            self.n_documents,
            text.window,
            gain=dense,
            effective=known.get("effective"),
            removable=known.get("removable"),
            measured_up_to=size(self.scored.paths[OURS][-1]),
            influence=self.depth.tau,
            heads=self._significant_heads,
            against=self._at_equal,
            missing={} if spec.has_heads else {"against": "it has no heads", "heads": "it has none"},
        )

    @cached_property
    def explored(self) -> Explored:
        """Everything that was measured."""
        singles = [Singles(self.depth.sweep, self.depth.text), *([self.heads] if self.heads else [])]
        paths = Paths(self.scored, self.titles, self.path_text), Paths(self.against.scored, self.against.titles, self.against.text)
        return explored(self.model, singles, paths)

    @property
    def conclusion(self) -> str:
        return conclusion(self.findings)

    @cached_property
    def effective(self) -> Estimate:
        """Over how many blocks the loss of single removals is spread."""
        return estimate(effective_number, self.depth.rises)

    @cached_property
    def removable(self) -> Estimate:
        """How many blocks can go together for LIMIT of the gain, in the order of what each costs alone on calibration text."""
        scored = self.scored
        path = scored.paths[OURS]
        sizes = np.array([size(ablation) for ablation in path])
        bits = np.stack([scored.nll[ablation] - scored.nll[NONE] for ablation in path]) / np.log(2)

        def largest(shares: Array) -> Array:
            return sizes[np.logical_and.accumulate(shares <= LIMIT, axis=-1).sum(-1) - 1]

        return estimate(largest, Scores(bits, self.gain), steps=True)

    @property
    def _significant_heads(self) -> tuple[int, int] | None:
        if self.heads is None:
            return None
        rows = self._heads[(self._heads["kind"] == "heads") & (self._heads["metric"] == "significant")]
        return int((rows["value"] == 1).sum()), len(rows)

    @property
    def _at_equal(self) -> tuple[AtEqual, ...]:
        return at_equal({kind: curve for kind, curve in self.against.curves.items() if kind in ("blocks", "heads")})


def at_equal(curves: Mapping[str, Curve]) -> tuple[AtEqual, ...]:
    """Blocks and heads wherever both save as much, by parameters and by FLOPs; nothing without heads."""
    if set(curves) != {"blocks", "heads"}:
        return ()
    return tuple(
        AtEqual(c.measure, c.share, c.rises["blocks"], c.rises["heads"], bool(c.differing))
        for c in compare(curves, (PARAMETERS, FLOPS), GRID)
        if len(c.rises) == 2
    )


def takes(spec: ModelSpec) -> Takes:
    """What depth and depth against width take, heads, and a few sets of blocks by order."""
    against = depth_vs_width.takes(spec)
    passes = {**depth_study.takes(spec).passes, **against.passes}
    n = len(spec.blocks)
    sets = (len(SEARCHED) + RANDOM) * POINTS * (1 - CONTEST / 2) + REACH * (1 - REACH / 2) * n
    orders = {"sets of blocks by order": sets * spec.flops_per_token, "greedy order": 8 * n / 3 * spec.flops_per_token}  # of few documents
    heads = {HEADS: heads_flops(spec), GRADIENTS: gradients_flops(spec)} if spec.has_heads else {}
    within = {**against.within, "greedy order": ORDERS_TIME, HEADS: 1.0}
    return Takes({**passes, **heads, **orders}, 3, within)


def redundancy(model: BlockModel, config: RunConfig) -> Redundancy:
    """Asks the studies of depth, of heads and of depth against width, and holds removal orders of blocks against each other.

    What they or others have scored before is not scored again. Orders are found on calibration text and judged on held-out text.
    """
    config = config.within(model)
    by_depth = depth(model, config)
    heads, why = _heads(model, config)
    against = depth_width(model, config)
    removals = Removals(model, config).limited(ORDERS_TIME)
    found = find_paths(model, against.calibration, removals.config, speed(model, config.budget.window), SEARCHED)
    n = len(model.spec.blocks)
    most = max(1, min(n - 1, ceil(REACH * n)))
    paths = {OURS: nested(against.ordered["blocks"][:most])}
    others = found.paths | {f"random {i}": random_order(n, config.seed + i) for i in range(RANDOM)}
    paths |= {name: (NONE, *thinned(path[1 : 1 + ceil(CONTEST * n)], POINTS)) for name, path in others.items()}
    scored, text = removals.paths("removal orders", paths, against.text)
    bits = unigram_bits(text.corpus, text.windows(model), scored.bytes) - scored.nll[NONE] / np.log(2)
    return Redundancy(model, by_depth, heads, why, against, scored, text, found.seconds, bits)


def _heads(model: BlockModel, config: RunConfig) -> tuple[Singles | None, str]:
    """Single heads, or why there are none."""
    if not model.spec.has_heads:
        return None, "the model has none"
    singles = single_heads(model, config)
    seconds = cost(model, singles.plan, singles.text.documents, singles.text.window).seconds
    most = config.budget.seconds
    if most is not None and seconds > most and not singles.planned:
        return None, f"skipped, about {minutes(seconds)} on this machine: use the full budget"
    effects = effects_of(singles, config.progress, HEADS)
    return Singles(effects.table, singles.text, effects.caption), ""
