"""Width: what each head costs, whether there is a pattern in it, and how many heads can go (paper, section 4.2 and Figure 6)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from adapters.base import BlockModel
from adapters.specs import ModelSpec
from analysis.control import pilot
from analysis.control.outcome import LIMITS, Outcome
from analysis.control.study import effects_of
from analysis.data.batches import Text
from analysis.depth.findings import redundancy
from analysis.display.format import INTERVALS, bounded, count, parameters
from analysis.display.removal_plots import Panel
from analysis.display.result import Result, read
from analysis.display.sentences import intervals, reliability_sentence
from analysis.engine.ablations import single_ablations
from analysis.engine.cost import cost
from analysis.engine.plan import Plan, plan
from analysis.removal.explored import Explored, Paths, Singles, explored
from analysis.removal.paths import Scored, up_to
from analysis.runs.budgets import Takes
from analysis.runs.settings import RunConfig
from analysis.runs.single_removals import SingleRemovals
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI
from analysis.stats.rank_agreement import Scores, agreement, reliability
from analysis.width import sentences
from analysis.width.experts import Experts, experts, flops
from analysis.width.head_orders import NAMES, Removals
from analysis.width.pattern import patterns, places

SWEEP, ORDER, PATHS = 0.4, 0.25, 0.1  # of the budget's time: single heads, their causal order, and the removal paths
EXPERTS = 0.4  # ... single experts, where there are any
HEADS, GRADIENTS = "single heads", "gradients of heads"  # what is scored, by name
SHORT = 32  # tokens of a window, where longer ones take too long
LIMIT, POINTS = 0.5, 6  # half of the heads are removed along a path, in so many steps
CHEAP = ("l2", "bi", "taylor")  # importance of a head from passes over the dense model


@dataclass(frozen=True)
class Width(Result):
    """Results of one model: the tidy table of single heads, and the sums per document behind everything."""

    model: BlockModel
    text: Text
    calibration: Text
    plan: Plan
    effects: Outcome  # of single heads
    rises: Scores  # of every head, on held-out text
    importance: dict[str, Scores]  # of every head, on calibration text, by name as in `removals.NAMES`
    experts: Experts | None  # None: the model has none
    scored: Scored  # paths by the same names
    path_text: Text
    seconds: float  # that a sweep of MIN_DOCUMENTS_FOR_CI documents takes on this machine

    @property
    def sweep(self) -> pd.DataFrame:
        """The tidy table of single heads."""
        return self.effects.table

    @property
    def n_documents(self) -> int:
        return len(self.rises.tokens)

    @property
    def bars(self) -> str:
        return f"{super().bars}{self.estimated}"

    @property
    def estimated(self) -> str:
        """How, as the end of a caption; empty where gradients are used for nothing."""
        return f" {self.effects.caption}" if self.effects.controlled else ""

    @property
    def limits(self) -> str:
        """What no number of gradients shows; empty where none are used."""
        return LIMITS if self.effects.controlled else ""

    @property
    def n_heads(self) -> int:
        return len(self.rises.sums)

    def heads(self, metric: str) -> pd.DataFrame:
        """One row a head: block, head, value, ci_low, ci_high, significant."""
        rows = self.sweep[self.sweep["kind"] == "heads"]
        significant = rows[rows["metric"] == "significant"]["value"].to_numpy() == 1
        return rows[rows["metric"] == metric].astype({"block": int, "head": int}).assign(significant=significant).reset_index(drop=True)

    @property
    def dense(self) -> float:
        """Perplexity of the dense model."""
        return float(self.sweep.query("kind == 'dense' and metric == 'ppl'")["value"].iloc[0])

    @property
    def perplexities(self) -> pd.DataFrame:
        """As `heads`: perplexity without each head, with the interval of its paired difference from the dense model."""
        columns = ["value", "ci_low", "ci_high"]
        rises = self.heads("delta_nll")
        return rises.assign(**{name: self.dense * np.exp(rises[name].astype(float)) for name in columns})

    @property
    def described(self) -> str:
        spec = self.model.spec
        each = next(((block.n_heads or 0) // block.n_kv_heads for block in spec.blocks if block.n_kv_heads), 0)
        groups = f", {each} to a key-value head" if each else ""
        experts = f"; {self.experts.described}" if self.experts else ""
        parts = f"{count(self.n_blocks, 'block')}, {count(self.n_heads, 'head')}{groups}{experts}"
        return f"{spec.name}, {spec.variant}: {parts}; {parameters(spec)}"

    @property
    def measured(self) -> dict[str, str]:
        """What was measured and on what."""
        return {
            "Single heads": f"{read(self.text, 'held-out', self.n_documents)}; {self.plan.mixer_rows:,} passes through mixers and "
            f"{self.plan.ffn_rows:,} through ffns for each",
            "A removed head": "contributes nothing (zero): the same as deleting it",
            "Orders": f"{self.text.corpus}, calibration: {count(self.calibration.documents, 'document')}",
            "Removal paths": f"held-out: {count(self.path_text.documents, 'document')}",
            "Intervals": f"{INTERVALS}{self.effects.intervals}",
            "Effects of heads": self.effects.sentence,
            "Significance": "t-test of the paired difference over documents; false discoveries held to 5\u00a0% among all heads",
        }

    @property
    def more(self) -> str:
        """What intervals would take, when there are none."""
        return sentences.more_documents(self.n_documents, self.seconds)

    @cached_property
    def found(self) -> str:
        """Which heads cost something."""
        return redundancy(self.sweep, "heads")

    @cached_property
    def patterns(self) -> pd.DataFrame:
        return patterns(self.rises, *places(self.model.spec))

    @cached_property
    def pattern_table(self) -> pd.DataFrame:
        """The shares as text."""
        shares = {
            name: [f"{100 * x:.0f} %" for x in self.patterns[column]]
            for name, column in (("explained", "explained"), ("by chance", "chance"))
        }
        named = {"depth": "depth (a line)", "block": "block", "position": "position in the group, within blocks"}
        table = pd.DataFrame({"pattern": self.patterns["pattern"].map(named), "effects": self.patterns["effects"], **shares})
        table["p against chance"], table["p against noise"] = self.patterns["p_layout"], self.patterns["p_documents"]
        return table

    @cached_property
    def pattern(self) -> str:
        return sentences.pattern_sentence(self.patterns, n_heads=self.n_heads, n_documents=self.n_documents)

    @cached_property
    def trusted(self) -> str:
        """How far the ranking depends on the documents."""
        r = reliability(self.rises, "spearman")
        rank = f"rank the {count(self.n_heads, 'head')}"
        return reliability_sentence(r, rank, n_documents=self.n_documents, statistic="Spearman's rho")

    @cached_property
    def agreements(self) -> pd.DataFrame:
        """Rank correlation of each importance with what heads really cost on held-out text."""
        rows = [(NAMES[name], bounded(agreement(s, self.rises, "spearman", paired=False))) for name, s in self.importance.items()]
        return pd.DataFrame(rows, columns=["order by", "Spearman's ρ with the rise in loss, held-out"])

    @property
    def titles(self) -> dict[str, str]:
        """Of the orders."""
        return {name: NAMES[name] for name in self.scored.paths}

    def _removed(self, name: str) -> list[float]:
        """The share of the heads that each set of an order has removed."""
        return [len(ablation.heads) / self.n_heads for ablation in self.scored.paths[name]]

    @cached_property
    def table(self) -> pd.DataFrame:
        """As `Scored.table`, with the share of the heads that is removed."""
        return self.scored.table(list(self.titles)).assign(heads=[share for name in self.titles for share in self._removed(name)])

    @property
    def panels(self) -> list[Panel]:
        return [Panel("heads", "heads removed", tuple(self.titles))]

    @property
    def path_bands(self) -> str:
        return intervals(self.path_text.documents, "bands")

    @cached_property
    def explored(self) -> Explored:
        """Everything that was measured."""
        titles = {name: f"heads by {title}" for name, title in self.titles.items()}
        singles = [Singles(self.sweep, self.text, self.effects.caption)]
        singles += [Singles(self.experts.sweep, self.experts.text)] if self.experts else []
        return explored(self.model, singles, [Paths(self.scored, titles, self.path_text)])

    @cached_property
    def best_order(self) -> str:
        """Which order removes a quarter of the heads at least cost."""
        curves = {
            title: self.scored.curve(name)._replace(shares={"heads": np.array(self._removed(name))}) for name, title in self.titles.items()
        }
        return sentences.order_of_heads(curves)

    @cached_property
    def conclusion(self) -> str:
        return " ".join([self.found, self.pattern, *([self.experts.found] if self.experts else [])])


def takes(spec: ModelSpec) -> Takes:
    """Single heads, again on calibration text for their causal order, and the sets of each order. Raises StrataError without heads."""
    heads, sets = heads_flops(spec), POINTS * (1 + len(CHEAP)) * (1 - LIMIT / 4)
    orders = {"order of heads": heads + gradients_flops(spec), "importance of heads": 4 * spec.flops_per_token}
    passes = {HEADS: heads, GRADIENTS: gradients_flops(spec), **orders, "heads removed": sets * spec.flops_per_token}
    return Takes(passes | ({"single experts": flops(spec)} if spec.has_experts else {}), 3, {"order of heads": ORDER})


def gradients_flops(spec: ModelSpec) -> float:
    """Of what narrows the intervals of heads, for each token that is swept: a pilot, and gradients."""
    heads = single_ablations(spec, ["heads"])
    return plan(spec, pilot.sampled(spec, heads)).flops_per_token + pilot.MOST_OF_FEW * pilot.PASSES * spec.flops_per_token


def heads_flops(spec: ModelSpec) -> float:
    """Of every head on its own, for each token. Raises StrataError on a model without heads."""
    return plan(spec, single_ablations(spec, ["heads"])).flops_per_token


def single_heads(model: BlockModel, config: RunConfig) -> SingleRemovals:
    """Every head on its own, on windows of SHORT tokens where the budget holds too few documents of its own window for intervals."""
    config = config.limited(SWEEP)
    singles = SingleRemovals.sized(model, ["heads"], config)
    if singles.text.documents >= MIN_DOCUMENTS_FOR_CI or config.documents or config.budget.window <= SHORT:
        return singles
    return SingleRemovals.sized(model, ["heads"], replace(config, budget=replace(config.budget, window=SHORT)))


def width(model: BlockModel, config: RunConfig) -> Width:
    """Sweeps all heads on held-out text, orders them on calibration text, and removes them along these orders on held-out text.

    The causal order is measured when the budget holds it. Raises StrataError
    on a model without heads.
    """
    removals = Removals(model, config.within(model))
    parts = single_ablations(model.spec, ["heads"])
    singles = single_heads(model, removals.config)
    study, text = singles.study, singles.text
    calibration = removals.texts(max(config.documents or 0, MIN_DOCUMENTS_FOR_CI, text.documents))[1]
    effects = effects_of(singles, config.progress, HEADS)
    sums = effects.sums

    causal = removals.limited(ORDER).causal(["heads"], calibration)
    importance = ({"causal": causal["heads"]} if causal else {}) | removals.metrics(["heads"], CHEAP, calibration)["heads"]
    equal = np.full(len(parts), 1 / len(parts))
    paths = {name: up_to(removals.ordered("heads", scores), equal, LIMIT, POINTS) for name, scores in importance.items()}
    scored, path_text = removals.limited(PATHS).paths("heads removed", paths, text)
    rises = Scores(sums["nll"][1:] - sums["nll"][0], sums["tokens"])
    seconds = cost(model, study.plan, MIN_DOCUMENTS_FOR_CI, text.window).seconds if text.documents < MIN_DOCUMENTS_FOR_CI else 0.0
    found = experts(model, removals.limited(EXPERTS).config, calibration)
    return Width(model, text, calibration, study.plan, effects, rises, importance, found, scored, path_text, seconds)
