"""Benchmarks along removal paths: accuracy and the loss of the right option by what is out (paper, Figures 2b, 5 and 9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from adapters.ablation import NONE, Ablation
from analysis.display.format import bounded, capital, listed
from analysis.display.removal_plots import removal_curves
from analysis.display.sentences import RATE, not_known, too_few
from analysis.pruning.results import RemovalResult
from analysis.removal.paths import size
from analysis.runs.settings import RunConfig, progress_fraction, run_folder
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, Interval
from analysis.tasks import TaskSet, verdicts
from analysis.tasks.benchmark import Benchmark, by_task
from analysis.tasks.study import TaskStudy, by_ablation

PLACES = {"accuracy": "acc", "loss": "log_loss"}  # of a task with options


@dataclass(frozen=True)
class TaskCurves:
    """A task, or the pooled tasks of a group, without every scored set of a model's removal paths."""

    removed: RemovalResult
    found: Benchmark
    places: dict[Ablation, int]  # of each set in the benchmark's table

    @property
    def name(self) -> str:
        """The task's name as Markdown."""
        return self.found.name

    def value(self, ablation: Ablation, metric: str) -> Interval:
        """Raises KeyError for a metric that the task has not, and for a set that was not scored."""
        return Interval(*self._values[self.places[ablation], metric])

    @cached_property
    def _values(self) -> dict[tuple[int, str], tuple]:
        rows = self.found.table
        return {(a, m): v for a, m, *v in rows[["ablation", "metric", "value", "ci_low", "ci_high"]].itertuples(index=False)}  # type: ignore[misc]

    def curves(self, metric: str, label: str, levels: dict[str, float]) -> dict[str, Figure]:
        """As `analysis.display.removal_plots.removal_curves`, of a metric of the benchmark: by what is drawn against what."""
        removed = self.removed
        ours, random = self._of(removed.table, metric), self._of(removed.random, metric)
        against = {"blocks removed": removed.panels, "what is saved": removed.savings}
        return {
            f"{label} against {what}": removal_curves(ours, removed.titles, panels, random=random, ylabel=label, levels=levels)
            for what, panels in against.items()
            if panels
        }

    def _of(self, table: pd.DataFrame, metric: str) -> pd.DataFrame:
        """A table as `Scored.table` with the metric for the loss, without intervals: over few questions they would hide each other."""
        paths = self.removed.scored.paths
        values = [self.value(ablation, metric).value for name in table["order"].unique() for ablation in paths[name]]
        return table.assign(value=values, ci_low=np.nan, ci_high=np.nan)

    @property
    def figures(self) -> dict[str, Figure]:
        """Each metric against blocks removed; and against the blocks' parameters, all parameters and FLOPs that are saved."""
        found = self.found
        if not found.has_options:
            return self.curves("nll", found.loss_name, {})
        drawn = [
            self.curves(metric, label, {"guessing": found.chance[what]})
            for (what, metric), label in zip(PLACES.items(), ("accuracy", found.loss_name), strict=True)
        ]
        return {label: figure for figures in drawn for label, figure in figures.items()}

    @property
    def bands(self) -> str:
        """What the bands of a figure are; a sentence for captions."""
        n = self.found.n_documents
        said = f"Intervals over {n} questions are in the table" if n >= MIN_DOCUMENTS_FOR_CI else f"There are no intervals: {too_few(n)}"
        return f"{said}. {self.removed.grey}"

    @cached_property
    def table(self) -> pd.DataFrame:
        """What each order leaves where the paper stops removing (its quarter of the blocks)."""
        rows, metrics = [], {**({"accuracy": "acc"} if self.found.has_options else {}), self.found.loss_name: self.found.loss}
        for title, ablation in {"unpruned": NONE, **self._at_quarter}.items():
            line: dict[str, Any] = {"order": title, "blocks removed": f"{size(ablation):g}"}
            line |= {name: bounded(self.value(ablation, metric)) for name, metric in metrics.items()}
            line["rise in loss"] = bounded(self.value(ablation, f"delta_{self.found.loss}")) if ablation else ""
            if self.found.has_options:
                line["better than guessing"] = "yes" if self._beats(ablation) else "not significantly"
            rows.append(line)
        return pd.DataFrame(rows)

    @property
    def _at_quarter(self) -> dict[str, Ablation]:
        """By the order's title: the largest scored set up to that size."""
        paths, most = self.removed.scored.paths, self.removed.paper_n_removed
        return {title: max((a for a in paths[n] if size(a) <= most), key=size) for n, title in self.removed.titles.items()}

    def _beats(self, ablation: Ablation) -> bool:
        return bool(self.value(ablation, "beats_chance").value)

    @cached_property
    def conclusion(self) -> str:
        """Is the dense model better than chance, and how far along each order is it still?"""
        found, said = self.found, []
        n = found.n_documents
        if found.cut:
            said.append(verdicts.cut(found.cut, found.requests))
        if found.has_options:
            accuracy, beats = found.dense("acc"), self._beats(NONE)
            said.append(verdicts.against_chance(self.name, accuracy, found.chance["accuracy"], beats=beats, n_documents=n))
            if beats:
                said.append(self._last_above_chance)
        said.append(self._costs if n >= MIN_DOCUMENTS_FOR_CI else f"{capital(not_known(f'what removals cost on {self.name}', n))}.")
        return " ".join(said)

    @property
    def _costs(self) -> str:
        """By which orders the loss at the paper's size differs significantly from the dense model's."""
        at, metric = self._at_quarter, f"delta_{self.found.loss}"
        worst = max(at, key=lambda title: self.value(at[title], metric).value)
        significant = [title for title, ablation in at.items() if self.value(ablation, "significant").value]
        out = f"With up to {self.removed.paper_n_removed} of {self.removed.n_blocks} blocks removed, the {self.found.loss_name}"
        differs = "differs significantly" if significant else "does not differ significantly"
        orders = listed(significant) if significant else "any order"
        reach = f"the largest rise is {bounded(self.value(at[worst], metric))}, by {worst}"
        return f"{out} {differs} from that of the unpruned model by {orders} {RATE}; {reach}."

    @property
    def _last_above_chance(self) -> str:
        """The largest set of each order up to which all that were scored beat chance."""
        reach: dict[str, list[str]] = {}
        for name, title in self.removed.titles.items():
            last = NONE
            for ablation in self.removed.scored.paths[name]:
                if not self._beats(ablation):
                    break
                last = ablation
            reach.setdefault(f"{size(last):g}", []).append(title)
        clauses = [f"{blocks} by {', '.join(titles)}" for blocks, titles in reach.items()]
        return f"It stays so {RATE} with up to this many blocks removed: {'; '.join(clauses)}."


def along_paths(removed: RemovalResult, tasks: Sequence[TaskSet], config: RunConfig) -> list[TaskCurves]:
    """Each task under every set that `removed` scored."""
    model, sets = removed.model, [ablation for ablation in removed.scored.nll if ablation]
    made = []
    for one in tasks:
        study = TaskStudy.of(model, sets, one)
        advance = progress_fraction(config.progress, f"{one.name} along the paths of {model.spec.name}", study.steps)
        scores = study.scores(run_folder(config.out, study.identity), advance)
        table = by_ablation(study, *scores, kinds_of(removed, study), bare="random")
        places = {ablation: i for i, ablation in enumerate(study.plan.ablations)}
        made += [TaskCurves(removed, found, places) for found in by_task(study, table)]
    return made


def kinds_of(removed: RemovalResult, study: TaskStudy) -> list[str]:
    """Of each ablation. Sets of random orders alone are a kind of their own: most guess, and are there to be passed."""
    random, ours = ({a for name in names for a in removed.scored.paths[name]} for names in (removed.null, removed.whole))
    return ["dense" if not a else "random" if a in random - ours else "sets" for a in study.plan.ablations]
