"""What a study of generation found: tables, figures' rows and words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from adapters.ablation import Ablation
from adapters.base import BlockModel
from analysis.data.batches import Text
from analysis.display.format import bounded, escape, listed
from analysis.display.result import Result, read
from analysis.engine.plan import Plan
from analysis.generation import findings
from analysis.generation.benchmarks import TaskPath
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
        """What is left of the unpruned model as blocks go, on one axis: `order` names what is measured, along Block Influence's."""
        rows = []
        for a in self.paths["bi"]:
            rise = self._value(self.loss, "delta_nll", a) if a else Interval(0.0, 0.0, 0.0)
            ends = (None if end is None or np.isnan(end) else float(np.exp(-end)) for end in (rise.high, rise.low))
            rows.append(("perplexity", size(a), float(np.exp(-rise.value)), *ends))
            rows.append(("agreement", size(a), *self.value("agreement", a)))
            rows += [(task.title, size(a), *task.left[a]) for task in self.tasks]
        return pd.DataFrame(rows, columns=["order", "removed", "value", "ci_low", "ci_high"]).astype({"ci_low": float, "ci_high": float})

    @property
    def kept_titles(self) -> dict[str, str]:
        """Of what is known to be there in the unpruned model."""
        said = {"perplexity": "perplexity (unpruned / pruned)", "agreement": "tokens that agree with the unpruned text"}
        return said | {task.title: task.title for task in self.tasks if task.known}

    @property
    def task_scores(self) -> dict[str, pd.DataFrame]:
        """Every benchmark along the orders, by a title that says what guessing scores."""
        found = {}
        for task in self.tasks:
            guess = "" if task.chance is None else f", guessing {task.chance:.2g}"
            found[f"{task.title} ({task.metric}{guess})"] = task.along(self.paths)
        return found

    @cached_property
    def singles(self) -> pd.DataFrame:
        """Rows of single blocks with a column `significant` for figures."""
        return self._told(["blocks", "dense"])

    @cached_property
    def heads(self) -> pd.DataFrame:
        """Share of tokens that differ without each head: block, head, value, significant; empty where heads were not removed."""
        rows = self._told(["heads"])
        rows = rows[rows["metric"] == "agreement"]
        return rows.assign(value=1 - rows["value"]).astype({"block": int, "head": int}).reset_index(drop=True)

    def _told(self, kinds: list[str]) -> pd.DataFrame:
        """Rows of these kinds, and whether the loss of the text differs significantly."""
        told = self.written[self.written["metric"] == "significant"].set_index("ablation")["value"]
        rows = self.written[self.written["kind"].isin(kinds) & (self.written["metric"] != "significant")]
        return rows.assign(significant=rows["ablation"].map(told).fillna(1).astype(bool))

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A line for each set of Block Influence's order: every measure of its texts, and its perplexity on held-out text."""
        rows = []
        for a in self.paths["bi"]:
            ppl = bounded(self._value(self.loss, "ppl", a))
            rows.append((f"{size(a):g}", *(bounded(self.value(metric, a)) for metric in TITLES), ppl))
        return pd.DataFrame(rows, columns=["blocks removed", *SHORT.values(), "perplexity"])

    def samples(self, prompt: int = 0) -> pd.DataFrame:
        """Texts behind one prompt side by side: unpruned, and without sets of SAMPLED sizes by Block Influence."""
        rows = [("prompt", _short(self.prompts[prompt], last=True))]
        for a in self.paths["bi"]:
            if not a or a in self._sampled:
                label = f"without {size(a):g} ({', '.join(map(str, sorted(a.blocks)))})" if a else "unpruned"
                rows.append((label, _short(self.texts[self.plan.ablations.index(a), prompt]["text"])))
        return pd.DataFrame(rows, columns=["", "text"])

    @property
    def sampled(self) -> str:
        """How many blocks are out in `samples`: "1, 2 and 4 blocks"."""
        sizes = [f"{size(a):g}" for a in self._sampled]
        return f"{listed(sizes)} {'block' if sizes == ['1'] else 'blocks'}"

    @property
    def _sampled(self) -> list[Ablation]:
        return [a for a in self.paths["bi"] if size(a) in SAMPLED]

    @cached_property
    def conclusion(self) -> str:
        singles = [findings.single_parts(self.singles)]
        heads = [findings.single_parts(self._told(["heads"]), "heads")] if len(self.heads) else []
        along = [findings.as_blocks_go(self.kept, self.n_blocks), findings.repetition(self.repetitions, self.n_documents)]
        return " ".join([*singles, *heads, *along])

    @property
    def repetitions(self) -> dict[float, Interval]:
        """The rise of the share of loops by blocks removed."""
        return {size(a): self.value("delta_loop", a) for a in self.paths["bi"] if a}

    @property
    def benchmarks(self) -> pd.DataFrame:
        """A line for each size of a set by Block Influence, a column for each benchmark: its score."""
        rows = [(f"{size(a):g}", *(bounded(task.scores[a]) for task in self.tasks)) for a in self.paths["bi"]]
        return pd.DataFrame(rows, columns=["blocks removed", *(escape(title) for title in self.task_scores)])

    @property
    def questions(self) -> str:
        """How many each benchmark has; for captions."""
        return ", ".join(f"{task.n_documents} of {escape(task.task)}" for task in self.tasks)

    @property
    def limits(self) -> str:
        return LIMITS


def _short(text: str, last: bool = False) -> str:
    shown = " ".join(text.split())
    if len(shown) <= SHOWN:
        return shown
    return f"... {shown[-SHOWN:]}" if last else f"{shown[:SHOWN]} ..."
