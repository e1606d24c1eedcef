"""What a study of generation found: tables, figures' rows and words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from adapters.ablation import Ablation
from adapters.base import BlockModel
from analysis.data.batches import Text
from analysis.display.format import bounded, escape
from analysis.display.result import Result, read
from analysis.engine.plan import Plan
from analysis.generation import findings
from analysis.removal.orders import ORDERS
from analysis.removal.paths import RemovalPath, size
from analysis.stats.intervals import Interval
from analysis.writing.table import SHORT, TITLES

SAMPLED = (1, 2, 4, 8)  # blocks removed of which texts are shown
SHOWN = 240  # characters of a text
LIMITS = (
    "These results are for one model behind prompts from one kind of text, in greedy decoding, without retraining after a removal. Two "
    "texts that differ in a token go on differently, so agreement falls with the length of the text; the loss under the unpruned model is "
    "low for text that repeats itself, and is to be read beside the repetition."
)


@dataclass(frozen=True)
class TaskPath:
    """The score of a benchmark without sets of blocks."""

    task: str
    metric: str
    written: bool
    chance: float
    values: dict[Ablation, float]
    n_documents: int

    @property
    def title(self) -> str:
        return f"{self.task}, {'generated' if self.written else 'multiple choice'}"

    def kept(self, ablation: Ablation) -> float:
        """The share of what the unpruned model scores above guessing."""
        dense = self.values[Ablation()] - self.chance
        return (self.values[ablation] - self.chance) / dense if dense > 0 else float("nan")


@dataclass(frozen=True)
class Generation(Result):
    """Results of one model on prompts: what each ablation wrote, and its loss on held-out text."""

    model: BlockModel
    text: Text
    paths: dict[str, RemovalPath]
    plan: Plan
    written: pd.DataFrame  # `analysis.writing.table.writing_table`
    loss: pd.DataFrame  # `analysis.runs.sweep_run.sweep_table`
    texts: np.ndarray  # (ablations, prompts)
    prompts: list[str]
    length: int  # tokens of a text, at most
    tasks: list[TaskPath]

    @property
    def n_documents(self) -> int:
        return len(self.prompts)

    @property
    def measured(self) -> dict[str, str]:
        return {
            "Prompts": read(self.text, "held-out", self.n_documents),
            "Texts": f"{self.texts.size:,} texts of up to {self.length} tokens, greedy: {len(self.plan.ablations) - 1} ablations and the "
            "unpruned model, all at once",
            "Orders": ", ".join(self.titles.values()),
        }

    @property
    def titles(self) -> dict[str, str]:
        return {name: ORDERS[name].title for name in self.paths}

    def value(self, metric: str, ablation: Ablation) -> Interval:
        """Of what an ablation wrote."""
        return self._value(self.written, metric, ablation)

    def _value(self, table: pd.DataFrame, metric: str, ablation: Ablation) -> Interval:
        row = table[(table["metric"] == metric) & (table["ablation"] == str(ablation))].iloc[0]
        return Interval(row["value"], row["ci_low"], row["ci_high"])

    def along(self, metric: str) -> pd.DataFrame:
        """A metric along the orders, as `analysis.display.removal_plots.removal_curves` takes it."""
        rows = [(name, size(a), *self.value(metric, a)) for name, path in self.paths.items() for a in path]
        return pd.DataFrame(rows, columns=["order", "removed", "value", "ci_low", "ci_high"])

    @property
    def measures(self) -> dict[str, pd.DataFrame]:
        """Every measure along the orders, by its short title."""
        return {SHORT[metric]: self.along(metric) for metric in TITLES}

    @cached_property
    def kept(self) -> pd.DataFrame:
        """What is kept of the unpruned model as blocks go, on one axis: `order` names what is measured, along Block Influence's."""
        path, rows = self.paths["bi"], []
        dense = self._value(self.loss, "ppl", Ablation()).value
        for a in path:
            rows.append(("perplexity", size(a), dense / self._value(self.loss, "ppl", a).value))
            rows.append(("agreement", size(a), self.value("agreement", a).value))
            rows += [(task.title, size(a), task.kept(a)) for task in self.tasks]
        return pd.DataFrame(rows, columns=["order", "removed", "value"]).assign(ci_low=np.nan, ci_high=np.nan)

    @property
    def kept_titles(self) -> dict[str, str]:
        said = {"perplexity": "perplexity (unpruned / pruned)", "agreement": "tokens that agree with the unpruned text"}
        return said | {task.title: task.title for task in self.tasks}

    @cached_property
    def singles(self) -> pd.DataFrame:
        """Rows of single blocks with a column `significant` for figures."""
        told = self.written[self.written["metric"] == "significant"].set_index("ablation")["value"]
        rows = self.written[self.written["kind"].isin(["blocks", "dense"]) & (self.written["metric"] != "significant")]
        return rows.assign(significant=rows["ablation"].map(told).fillna(1).astype(bool))

    @cached_property
    def heads(self) -> pd.DataFrame:
        """Share of tokens that differ without each head: block, head, value, significant; empty where heads were not removed."""
        rows = self.written[(self.written["kind"] == "heads") & (self.written["metric"] == "agreement")]
        told = self.written[self.written["metric"] == "significant"].set_index("ablation")["value"]
        return (
            rows.assign(value=1 - rows["value"], significant=rows["ablation"].map(told) == 1)
            .astype({"block": int, "head": int})
            .reset_index(drop=True)
        )

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A line for each set of Block Influence's order: every measure of its texts, and its perplexity on held-out text."""
        rows = []
        for a in self.paths["bi"]:
            ppl = bounded(self._value(self.loss, "ppl", a))
            rows.append((f"{size(a):g}", *(bounded(self.value(metric, a)) for metric in TITLES), ppl))
        return pd.DataFrame(rows, columns=["blocks removed", *SHORT.values(), "perplexity"])

    def samples(self, prompt: int = 0) -> pd.DataFrame:
        """Texts behind one prompt side by side: unpruned, and without 1, 2, 4 and 8 blocks by Block Influence."""
        rows = [("prompt", _short(self.prompts[prompt], last=True))]
        for a in self.paths["bi"]:
            if not a or size(a) in SAMPLED:
                label = f"without {size(a):g} ({', '.join(map(str, sorted(a.blocks)))})" if a else "unpruned"
                rows.append((label, _short(self.texts[self.plan.ablations.index(a), prompt]["text"])))
        return pd.DataFrame(rows, columns=["", "text"])

    @cached_property
    def conclusion(self) -> str:
        found = [findings.single_blocks(self.singles), findings.as_blocks_go(self.kept, self.n_blocks, self.n_documents)]
        return " ".join([*found, findings.repetition(self.repetitions, self.n_documents)])

    @property
    def repetitions(self) -> dict[float, Interval]:
        """The rise of the share of loops by blocks removed."""
        return {size(a): self.value("delta_loop", a) for a in self.paths["bi"] if a}

    @property
    def benchmarks(self) -> pd.DataFrame:
        rows = [(escape(t.title), t.metric, t.values[Ablation()], t.chance, t.n_documents) for t in self.tasks]
        return pd.DataFrame(rows, columns=["task", "metric", "unpruned", "guessing", "questions"])

    @property
    def limits(self) -> str:
        return LIMITS


def _short(text: str, last: bool = False) -> str:
    shown = " ".join(text.split())
    if len(shown) <= SHOWN:
        return shown
    return f"... {shown[-SHOWN:]}" if last else f"{shown[:SHOWN]} ..."
