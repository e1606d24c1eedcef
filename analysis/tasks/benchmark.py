"""Benchmarks of a notebook: each task without each part of a model, what can be told from chance, and what that says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from adapters.base import BlockModel
from analysis.display.format import bounded, escape
from analysis.display.sentences import NUMBERED, intervals
from analysis.engine.ablations import single_ablations
from analysis.runs.settings import RunConfig, progress_fraction, run_folder
from analysis.stats.intervals import Interval
from analysis.tasks import TaskSet, verdicts
from analysis.tasks.study import TaskStudy

PARTS = {"accuracy": ("acc", "beats_chance"), "loss": ("log_loss", "significant")}  # of a task with options: metric, and what fills a point

OPENING = """## Benchmarks

Tasks of lm-evaluation-harness under the same removals. Even a guessing model has some accuracy, so the loss of the correct option is
shown as well: it uses the probabilities of the options alone, and guessing gives log(number of options)."""


@dataclass(frozen=True)
class Benchmark:
    """A task, or the pooled tasks of a group, without each part of a model, or without sets of them."""

    model: str
    n_blocks: int
    task: str
    table: pd.DataFrame  # of this task, as `analysis.tasks.study.task_table`, or of sets as `by_ablation`
    chance: dict[str, float]  # accuracy and loss of guessing; empty for a task without options
    cut: int  # requests that lost tokens on the left
    requests: int

    @property
    def n_documents(self) -> int:
        return int(self.table["n_documents"].iloc[0])

    @property
    def name(self) -> str:
        """The task's name as Markdown."""
        return escape(self.task)

    @property
    def has_options(self) -> bool:
        return bool(self.chance)

    @property
    def loss(self) -> str:
        return "log_loss" if self.has_options else "nll"

    @property
    def loss_name(self) -> str:
        return "loss of the correct option (nats)" if self.has_options else "loss of the right answer (nats per token)"

    def dense(self, metric: str) -> Interval:
        return Interval(*self._of("dense", metric).iloc[0][["value", "ci_low", "ci_high"]])

    def rows(self, kind: str, metric: str, filled: str) -> pd.DataFrame:
        """One row a part: block, head, value, ci_low, ci_high, and `significant` (bool), from the metric `filled`."""
        significant = self._of(kind, filled)["value"].to_numpy() == 1
        whole = {"block": int} | ({kind[:-1]: int} if kind in NUMBERED else {})
        return self._of(kind, metric).astype(whole).assign(significant=significant).reset_index(drop=True)

    def _of(self, kind: str, metric: str) -> pd.DataFrame:
        return self.table[(self.table["kind"] == kind) & (self.table["metric"] == metric)]

    @cached_property
    def facts(self) -> dict[str, object]:
        """One line of a table: the dense model on this task."""
        known = {"task": self.task, "questions": self.n_documents, self.loss_name: bounded(self.dense(self.loss))}
        if not self.has_options:
            return known
        above = "yes" if self.dense("beats_chance").value else "not significantly"
        return known | {"accuracy": bounded(self.dense("acc")), "guessing": self.chance["accuracy"], "better than guessing": above}

    @property
    def bars(self) -> str:
        """What the bars of a figure are; a sentence for captions."""
        return intervals(self.n_documents, of="question")

    @property
    def caption(self) -> str:
        """What dots and lines mean."""
        lines = "The dashed line is the unpruned model"
        if not self.has_options:
            return f"{lines}; hollow points do not differ significantly from it. {self.bars}"
        return (
            f"{lines}, the dotted one is guessing. Hollow points are not significantly better than guessing (accuracy) or do not differ "
            f"significantly from the unpruned model (loss). "
            f"{self.bars}"
        )

    def conclusion(self, kind: str) -> str:
        """Is the dense model better than chance, and without which parts is it not?"""
        said = []
        if self.cut:
            said.append(verdicts.cut(self.cut, self.requests))
        if self.has_options:
            beats = bool(self.dense("beats_chance").value)
            accuracy, n = self.dense("acc"), self.n_documents
            said.append(verdicts.against_chance(self.name, accuracy, self.chance["accuracy"], beats=beats, n_documents=n))
            if beats:
                said.append(verdicts.down_to_chance(self.rows(kind, "acc", "beats_chance"), kind))
        said.append(verdicts.costs(self.rows(kind, f"delta_{self.loss}", "significant"), kind, n_documents=self.n_documents))
        return " ".join(said)


def facts(found: Sequence[Benchmark]) -> pd.DataFrame:
    """One line a task and model: the dense model, and whether it is better than a guess."""
    return pd.DataFrame([{"model": one.model} | one.facts for one in found])


def benchmarks(model: BlockModel, tasks: Sequence[TaskSet], kinds: Sequence[str], config: RunConfig) -> list[Benchmark]:
    """Each task without each single part of `kinds`. A group is pooled, a tag is its tasks."""
    return [found for one in tasks for found in _benchmarks(model, one, kinds, config)]


def _benchmarks(model: BlockModel, tasks: TaskSet, kinds: Sequence[str], config: RunConfig) -> list[Benchmark]:
    study = TaskStudy.of(model, single_ablations(model.spec, kinds), tasks)
    advance = progress_fraction(config.progress, f"{tasks.name} of {model.spec.name}", study.steps)
    return by_task(study, study.run(run_folder(config.out, study.identity), advance))


def of_all(
    models: Sequence[str], load: Callable[[str], BlockModel], tasks: Sequence[TaskSet], kinds: Sequence[str], config: RunConfig
) -> list[list[Benchmark]]:
    """By task, then by model. Models are loaded one at a time, and not at all without tasks."""
    each = [benchmarks(load(model), tasks, kinds, config) for model in models if tasks]
    return [list(found) for found in zip(*each, strict=True)]


def by_task(study: TaskStudy, table: pd.DataFrame) -> list[Benchmark]:
    """The tasks of a study, or one pooled benchmark of a group. `table`: with the columns `kind`, `task` and `metric`."""
    tasks, n = study.tasks, sum(map(len, study.requests))
    made = []
    for task in [tasks.name] if tasks.name in set(table["dataset"]) else table["dataset"].unique():
        members = set(tasks.members(task))
        gold = [tasks.gold(item) for item in tasks.items if item.task in members]
        model = study.model
        made.append(Benchmark(model.spec.name, len(model.blocks), task, table[table["dataset"] == task], guessing(gold), study.cut, n))
    return made


def guessing(gold: Sequence[tuple[list[int], int]]) -> dict[str, float]:
    """Accuracy and loss of an even guess among the options; empty without options. `gold`: of each item (`TaskSet.gold`)."""
    if not all(options for _, options in gold):
        return {}
    shares = [len(right) / options for right, options in gold]
    return {"accuracy": float(np.mean(shares)), "loss": float(-np.log(shares).mean())}
