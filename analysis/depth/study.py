"""Depth: which blocks, mixers and ffns of a model can go, and what Block Influence says of them (paper, Figures 3 and 7)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from adapters.base import BlockModel
from adapters.catalogue import MODELS, PACKAGES
from adapters.specs import ModelSpec
from analysis.data.batches import Text
from analysis.depth import findings
from analysis.display import sentences
from analysis.display.format import INTERVALS, bounded, number
from analysis.display.result import Result, read
from analysis.display.sentences import NOUNS
from analysis.engine.ablations import block_kinds, single_ablations
from analysis.engine.plan import Plan, plan
from analysis.metrics.study import ImportanceStudy
from analysis.removal.explored import Explored, Singles, explored
from analysis.runs.budgets import BUDGETS, Takes
from analysis.runs.settings import RunConfig, progress_fraction, run_folder
from analysis.runs.single_removals import SingleRemovals
from analysis.stats.intervals import Interval
from analysis.stats.rank_agreement import Scores, agreement

SWEEP = "single blocks, mixers and ffns"  # what is scored, by name
LIMITS = (
    "These results are for one model on one kind of text, without retraining after a removal. The effects of single removals do not "
    "add up: two blocks that can each be removed alone may not be removable together."
)


@dataclass(frozen=True)
class Depth(Result):
    """Results of one model: tidy tables, and the sums per document behind them."""

    model: BlockModel
    text: Text
    plan: Plan
    sweep: pd.DataFrame
    importance: pd.DataFrame
    nll: np.ndarray  # (ablations, documents), and the tokens of each document
    nll_tokens: np.ndarray
    bi: np.ndarray  # (blocks, documents)
    bi_tokens: np.ndarray

    def _rows(self, metric: str, kind: str = "blocks") -> pd.DataFrame:
        """Of one metric, by block."""
        table = pd.concat([self.sweep, self.importance])
        rows = table[(table["metric"] == metric) & (table["kind"] == kind)]
        return rows.set_index(rows["block"].astype(int))

    def column(self, metric: str, kind: str = "blocks") -> pd.Series:
        """Values of one metric by block."""
        return self._rows(metric, kind)["value"]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of parts that were taken out."""
        return block_kinds(self.model.spec)

    @property
    def removed(self) -> str:
        """What is removed, one at a time; Markdown."""
        return "a block, only its mixer or only its ffn" if self.kinds[1:] else "a block"

    def effects(self, metric: str) -> dict[int, Interval]:
        """Values of one metric by block, with their intervals, as figures take them."""
        rows = self._rows(metric)[["value", "ci_low", "ci_high"]].astype(float)
        return {block: Interval(*ends) for block, *ends in rows.itertuples(name=None)}

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The sweep with a column `significant` for figures: does this ablation differ significantly from the dense model?"""
        significant = self.sweep[self.sweep["metric"] == "significant"][["kind", "block", "value"]].rename(columns={"value": "significant"})
        merged = self.sweep[self.sweep["metric"] != "significant"].merge(significant, on=["kind", "block"], how="left")
        return merged.assign(significant=merged["significant"].fillna(1).astype(bool))

    @cached_property
    def explored(self) -> Explored:
        """Everything that was measured."""
        return explored(self.model, [Singles(self.sweep, self.text)])

    @property
    def dense(self) -> float:
        """Perplexity of the dense model."""
        return float(self.sweep.query("kind == 'dense' and metric == 'ppl'")["value"].iloc[0])

    @cached_property
    def blocks(self) -> pd.DataFrame:
        """One line a block: perplexity without it, what that costs in nats per token, by part, and its Block Influence."""
        rise = self.sweep[(self.sweep["metric"] == "delta_nll") & (self.sweep["kind"] == "blocks")]
        table = pd.DataFrame({"perplexity": self.column("ppl"), "rise in loss": self.column("delta_nll")})
        table["95 % interval"] = [_bounds(low, high) for low, high in zip(rise["ci_low"], rise["ci_high"], strict=True)]
        for kind in self.kinds[1:]:
            table[f"rise, {NOUNS[kind]}"] = self.column("delta_nll", kind)
        table["KL"], table["Block Influence"] = self.column("kl"), self.column("bi")
        table["significant"] = np.where(self.column("significant") == 1, "yes", "no")
        return table.rename_axis("block").reset_index()

    @property
    def n_documents(self) -> int:
        return self.nll.shape[1]

    @property
    def described(self) -> str:
        name = self.model.spec.name
        return super().described + (f" ({PACKAGES[name].title.split(',')[0]})" if name in MODELS else "")

    @property
    def measured(self) -> dict[str, str]:
        """What was measured and on what."""
        dense = self.sweep[self.sweep["kind"] == "dense"].set_index("metric")
        naive = len(self.nll) * self.n_blocks
        return {
            "Computed in": self.model.computed_in,
            "Text": read(self.text, "held-out", self.n_documents, int(dense["n_tokens"].iloc[0])),
            "Unpruned model": f"perplexity {_interval(dense, 'ppl')}; {_interval(dense, 'bits_per_byte')} bits per byte",
            "Sweep": f"{len(self.nll) - 1} ablations and the unpruned model: {self.plan.mixer_rows:,} passes through mixers "
            f"and {self.plan.ffn_rows:,} through ffns for each document, instead of {naive:,} of each one ablation at a time",
            "Intervals": INTERVALS,
            "Significance": "t-test of the paired difference over documents; false discoveries held to 5\u00a0% within each kind",
        }

    @property
    def rises(self) -> Scores:
        """Of the loss without each block."""
        blocks = slice(1, 1 + len(self.model.spec.blocks))  # of the plan: dense, then blocks
        return Scores(self.nll[blocks] - self.nll[0], self.nll_tokens)

    @cached_property
    def tau(self) -> Interval:
        """Kendall's tau of Block Influence with the rise in loss."""
        return agreement(Scores(self.bi, self.bi_tokens), self.rises, paired=False)

    @cached_property
    def bi_agreement(self) -> str:
        """Does Block Influence order blocks as the loss does?"""
        return sentences.agreement_sentence(self.tau, "Block Influence", n_blocks=len(self.bi), n_documents=self.n_documents)

    @cached_property
    def parts(self) -> str:
        """Which mixers and ffns can go."""
        said = [findings.redundancy(self.sweep, kind) for kind in self.kinds[1:]]
        return "\n\n".join(said) or f"Blocks of {self.name} are not a mixer and an ffn each: there are no halves to take out."

    @cached_property
    def limits(self) -> str:
        """What these documents can show, what more of them would, and what no number of them can."""
        return f"{findings.resolution(self.sweep, BUDGETS['full'].documents)}\n\n{LIMITS}"

    @cached_property
    def conclusion(self) -> str:
        return f"{findings.cheapest(self.sweep)} {self.bi_agreement}"


def _bounds(low: float, high: float) -> str:
    return "" if np.isnan(low) else f"{number(low)} to {number(high)}"


def _interval(rows: pd.DataFrame, metric: str) -> str:
    return bounded(Interval(*rows.loc[metric, ["value", "ci_low", "ci_high"]]), number)


def takes(spec: ModelSpec) -> Takes:
    """The sweep of blocks, mixers and ffns, and Block Influence."""
    return Takes({SWEEP: plan(spec, single_ablations(spec, block_kinds(spec))).flops_per_token, "Block Influence": spec.flops_per_token}, 2)


def depth(model: BlockModel, config: RunConfig) -> Depth:
    """Sweeps blocks, mixers and ffns on held-out text and measures BI on calibration text."""
    effects = SingleRemovals.sized(model, block_kinds(model.spec), config)
    text = effects.text
    calibration = ImportanceStudy(model, text.calibration(model))
    measured = run_folder(config.out, calibration.identity)
    importance = calibration.run(measured, progress_fraction(config.progress, "Block Influence", calibration.text.documents))
    sweep, nll = effects.run(config.progress)
    bi = calibration.scores(measured)
    return Depth(model, text, effects.plan, sweep, importance, nll["nll"], nll["tokens"], bi["bi"], bi["real"])
