"""Accuracies of the dense and all pruned models, beside what the paper prints (Table 1 and Figure 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from analysis.display.format import bounded, escape, number
from analysis.display.hover import note
from analysis.display.style import DENSE, GREY, LEVEL, PARTS, canvas
from analysis.methods.accuracy import METRIC, Answers, mean, retained
from analysis.methods.bench import PrunedPoint
from analysis.methods.table import METHODS
from analysis.paper.table_1 import TASKS, VERSION, WRITTEN, Printed, printed
from analysis.runs.tables import tidy
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, Array, Interval

ROOM = 3  # tasks whose intervals a table has room for, and panels side by side


@dataclass(frozen=True)
class Accuracies:
    """Answers of one model and of what methods make of it, to the same questions."""

    model: str
    tasks: tuple[str, ...]
    dense: tuple[Answers, ...]  # by task
    points: tuple[PrunedPoint, ...]
    paper_n_removed: float  # the target that the paper's size is

    @property
    def with_options(self) -> list[str]:
        """Tasks that have an accuracy, and a part in means."""
        return [task for task, found in zip(self.tasks, self.dense, strict=True) if found.chance is not None]

    @property
    def in_both(self) -> list[str]:
        """Those of them that the paper prints a score of."""
        return [task for task in self.with_options if task in TASKS]

    def retained(self, answers: Sequence[Answers], tasks: Sequence[str]) -> str:
        """Mean accuracy on `tasks` as a share of the dense model's."""
        return _in_percent(retained(self._right(answers, tasks), self._right(self.dense, tasks)))

    def _right(self, answers: Sequence[Answers], tasks: Sequence[str]) -> list[Array]:
        return [found.values for task, found in zip(self.tasks, answers, strict=True) if task in tasks]

    @cached_property
    def table(self) -> pd.DataFrame:
        """Table 1 at every size, in per cent; empty without tasks.

        Tasks without options have their loss, and no part in the mean; the paper's mean is over the tasks that both have.
        """
        if not self.tasks:
            return pd.DataFrame()
        rows = [("unpruned", "", *self._each(self.dense), self._mean(self.dense), "")]
        for p in self.points:
            share = self.retained(p.answers, self.with_options) if self.with_options else ""
            rows.append((METHODS[p.method].title, percent(p.target), *self._each(p.answers), self._mean(p.answers), share))
        for row in printed(self.model):
            each = ["" if score is None else f"{score:.2f}" for score in map(row.score, self.tasks)]
            rows.append((f"{row.method}, printed ({VERSION})", f"{row.removed:g}\u00a0%", *each, *self._printed(row)))
        return pd.DataFrame(rows, columns=["method", "removed", *map(escape, self.tasks), "mean", "retained"])

    def _each(self, answers: Sequence[Answers]) -> list[str]:
        """With intervals where there is room."""
        found = [a.interval if len(self.tasks) <= ROOM else Interval(a.interval.value, None, None) for a in answers]
        return [bounded(interval) if a.chance is None else _in_percent(interval) for a, interval in zip(answers, found, strict=True)]

    def _mean(self, answers: Sequence[Answers]) -> str:
        return _in_percent(mean(self._right(answers, self.with_options))) if self.with_options else ""

    def _printed(self, row: Printed) -> tuple[str, str]:
        """Mean and retained share of what is printed of the tasks that both have, and how many these are."""
        tasks, dense = self.in_both, printed(self.model)[0]
        if not tasks:
            return "", ""
        over = f"(over {len(tasks)} of {len(self.with_options)})"
        return f"{row.over(tasks):.2f} {over}", f"{100 * row.over(tasks) / dense.over(tasks):.2f} {over}"

    @property
    def caption(self) -> str:
        """Of `table`."""
        said = [
            f"Accuracy of {escape(self.model)} in percent, {METRIC} of lm_eval (Table 1 of the paper); retained is the share of "
            "the unpruned model's mean."
        ]
        if losses := [escape(task) for task in self.tasks if task not in self.with_options]:
            said.append(f"{', '.join(losses)}: loss of the right answer in nats per token, not part of the mean.")
        if printed(self.model):
            said.append(
                f"Printed means are over the tasks that were also run here. The paper's {' and '.join(WRITTEN)} are "
                "scores of generated text, which cannot be compared with a loss: their printed cells are blank."
            )
        return " ".join(said)

    @cached_property
    def accuracies(self) -> pd.DataFrame:
        """Of the dense model and of all methods at the paper's size: method, task, value, ci_low, ci_high, chance."""
        models = [
            ("unpruned", self.dense),
            *((METHODS[p.method].title, p.answers) for p in self.points if p.target == self.paper_n_removed),
        ]
        rows = [
            (title, task, *found.interval, found.chance)
            for title, answers in models
            for task, found in zip(self.tasks, answers, strict=True)
            if found.chance is not None
        ]
        return tidy(rows, ["method", "task", "value", "ci_low", "ci_high", "chance"])

    @property
    def figure(self) -> Figure:
        """Accuracy by method at the paper's size (Figure 1 of the paper), a panel for each task with options; there must be one."""
        panels = list(self.accuracies.groupby("task", sort=False))
        across, methods = min(ROOM, len(panels)), list(self.accuracies["method"].unique())
        down = -(-len(panels) // across)
        figure, axes = canvas(down, across, height=0.5 + down * (0.5 + 0.19 * len(methods)), sharey=True)
        for ax, (task, rows) in zip(axes.flat, panels, strict=False):
            value, bounds = rows["value"].to_numpy(dtype=float), rows[["ci_low", "ci_high"]].to_numpy(dtype=float)
            places, has = np.arange(len(rows)), np.isfinite(bounds).all(axis=1)
            bars = np.abs(bounds[has] - value[has, None]).T
            ax.errorbar(value[has], places[has], xerr=bars, fmt="none", ecolor=GREY, elinewidth=1.0, capsize=2)
            ax.scatter(value, places, s=22, color=["0.2", *[PARTS["blocks"]] * (len(rows) - 1)], zorder=3)
            note(ax, f"accuracy on {task}", rows["method"], value, places, value, *bounds.T)
            ax.axvline(value[0], **DENSE)
            ax.axvline(rows["chance"].iloc[0], **LEVEL)
            ax.set_title(task, fontsize=9)
            ax.set(xlabel="accuracy")
            sns.despine(ax=ax)
        for ax in axes.flat[len(panels) :]:
            ax.set_axis_off()
        axes[0, 0].set_yticks(range(len(methods)), methods)
        axes[0, 0].invert_yaxis()
        return figure

    @property
    def figure_caption(self) -> str:
        """Of `figure`."""
        return (
            f"Accuracy ({METRIC} of lm_eval) by method with {percent(self.paper_n_removed)} of the block parameters removed (Figure 1 of "
            f"the paper shows MMLU); dashed: the unpruned model, dotted: guessing. Bars: 95\u00a0% intervals over the questions of a task, "
            f"when there are at least {MIN_DOCUMENTS_FOR_CI}."
        )


def percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%".replace("-", "−")


def _in_percent(share: Interval) -> str:
    return bounded(share, lambda value: number(100 * value))
