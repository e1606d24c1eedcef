"""What each expert of a model costs, beside how many tokens come to it and how the router weighs it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from adapters.base import BlockModel
from adapters.specs import ModelSpec
from analysis.data.batches import Text
from analysis.depth.findings import redundancy
from analysis.display.format import bounded, count, hundredths
from analysis.engine.ablations import single_ablations
from analysis.engine.plan import plan
from analysis.metrics.metrics import EXPERT_METRICS
from analysis.runs.settings import RunConfig
from analysis.runs.single_removals import SingleRemovals
from analysis.stats.rank_agreement import Scores, agreement
from analysis.width.head_orders import Removals

OPENING = (
    "## Each expert on its own\n\nThe router does not see an expert that is removed: its tokens go to others. "
    "The rise in loss is relative to the unpruned model on the same windows."
)
METRICS = (*EXPERT_METRICS, "l2")  # of every expert, from a pass over calibration text
TITLES = {"load": "share of the tokens that are sent to it", "router_weight": "mean weight", "l2": "norm of what it gives"}


@dataclass(frozen=True)
class Experts:
    """Of one model, in the order of its blocks."""

    spec: ModelSpec
    sweep: pd.DataFrame  # tidy, of held-out text
    text: Text  # of the sweep
    rises: Scores  # of the same
    importance: dict[str, Scores]  # on calibration text, by name as METRICS

    @property
    def effects(self) -> pd.DataFrame:
        """One row an expert: block, expert, value, ci_low, ci_high, significant."""
        rows = self.sweep[self.sweep["kind"] == "experts"]
        significant = rows[rows["metric"] == "significant"]["value"].to_numpy() == 1
        found = rows[rows["metric"] == "delta_nll"].astype({"block": int, "expert": int})
        return found.assign(significant=significant).reset_index(drop=True)

    @property
    def loads(self) -> pd.DataFrame:
        """As `effects`: the share of the tokens that each expert is sent, in the whole of its block k of them."""
        scores = self.importance["load"]
        return self.effects[["block", "expert"]].assign(value=scores.means(scores.all), significant=True)

    @property
    def described(self) -> str:
        """What a token meets."""
        first = next(block for block in self.spec.blocks if block.n_experts)
        beside = " and an MLP beside them" if first.shared_expert else ""
        return f"{count(len(self.rises.sums), 'expert')}, of which a token meets {first.experts_per_token} in a block{beside}"

    @cached_property
    def found(self) -> str:
        """Which experts cost something."""
        return redundancy(self.sweep, "experts")

    @cached_property
    def agreements(self) -> pd.DataFrame:
        """Rank correlation of what the router does with what experts really cost."""
        rows = [
            (TITLES[name], bounded(agreement(s, self.rises, "spearman", paired=False), hundredths)) for name, s in self.importance.items()
        ]
        return pd.DataFrame(rows, columns=["on calibration text", "Spearman's ρ with the rise in loss, held-out"])


def flops(spec: ModelSpec) -> float:
    """Of every expert on its own and of its metrics, for each token; nothing without experts."""
    if not spec.has_experts:
        return 0.0
    return plan(spec, single_ablations(spec, ["experts"])).flops_per_token + 2 * spec.flops_per_token


def experts(model: BlockModel, config: RunConfig, calibration: Text) -> Experts | None:
    """Sweeps all experts on held-out text, and looks at the router on calibration text; None where there are none."""
    if not model.spec.has_experts:
        return None
    singles = SingleRemovals.sized(model, ["experts"], config)
    table, sums = singles.run(config.progress, "single experts")
    importance = Removals(model, config).metrics(["experts"], METRICS, calibration)["experts"]
    return Experts(model.spec, table, singles.text, Scores(sums["nll"][1:] - sums["nll"][0], sums["tokens"]), importance)
