"""Pruning methods where as much of a model is gone: loss, accuracy, and what the paper prints (paper, Table 1 and Figure 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from adapters.base import BlockModel
from adapters.specs import ModelSpec
from analysis.data.batches import Text
from analysis.display.format import bounded, escape, listed
from analysis.display.removal_plots import Panel, distinct
from analysis.display.result import Result, read
from analysis.engine.ablations import single_ablations
from analysis.engine.plan import plan
from analysis.methods import findings, laco, llm_pruner, removal
from analysis.methods.accuracy import Answers, has_options
from analysis.methods.bench import MethodRuns, PrunedPoint
from analysis.methods.method import TOLERANCE, calibration_for, without_last
from analysis.methods.scores import Accuracies, percent
from analysis.methods.table import METHODS
from analysis.paper.shortgpt import paper_n_removed
from analysis.paper.table_1 import COLUMNS, VERSION, printed
from analysis.removal.savings import MEASURES, measures
from analysis.runs.budgets import Takes
from analysis.runs.settings import RunConfig
from analysis.stats.intervals import Array, Interval, ratio
from analysis.tasks import TaskSet

OTHERS = (1 / 8, 3 / 8, 1 / 2)  # of the blocks, besides the paper's quarter
LIMITS = (
    "Methods are compared at equal savings of block parameters, not of all parameters: a narrower residual stream needs its own "
    "unembedding matrix, while removed blocks leave the embeddings unchanged. Nothing is trained after pruning; training would recover "
    "part of the loss, and not the same part for all methods. All use the same calibration text, which need not be what their authors "
    f"used: LaCo reads the first {laco.DOCUMENTS} documents, at most {laco.TOKENS} tokens of each, one-shot removal the first "
    f"{removal.DOCUMENTS} documents, the others all of it. Sizes differ from their targets by up to {100 * TOLERANCE:g} points."
)


@dataclass(frozen=True)
class Methods(Result):
    """Results of one model: its methods at every size, on the same held-out text."""

    model: BlockModel
    text: Text
    calibration: Text
    targets: tuple[float, ...]  # ascending
    nll: Array  # of the dense model (documents,)
    tokens: Array
    answers: tuple[Answers, ...]  # of the dense model, by task
    tasks: tuple[str, ...]
    points: tuple[PrunedPoint, ...]
    skipped: tuple[str, ...] = ()  # sentences on methods, with the reason

    @property
    def paper_n_removed(self) -> float:
        """The target that is nearest to the paper's size."""
        return _target(self.model, paper_n_removed(len(self.model.blocks)))

    @property
    def reached(self) -> list[PrunedPoint]:
        return [point for point in self.points if point.nll is not None]

    def rise(self, point: PrunedPoint) -> Interval:
        """Of the loss over the dense model's, in nats per token, paired over documents."""
        assert point.nll is not None
        return ratio(point.nll - self.nll, self.tokens)

    @property
    def titles(self) -> dict[str, str]:
        return {point.method: METHODS[point.method].title for point in self.reached}

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a method and size, the dense model at zero first: order (the method), MEASURES, value, ci_low, ci_high."""
        rows: list[tuple] = [(name, *(0.0,) * (len(MEASURES) + 3)) for name in self.titles]
        rows += [(p.method, *p.size, *self.rise(p)) for p in self.reached if p.size]
        table = pd.DataFrame(rows, columns=["order", *MEASURES, "value", "ci_low", "ci_high"])
        return table.astype(dict.fromkeys(["ci_low", "ci_high"], float)).sort_values(["order", "block parameters"], kind="stable")

    @property
    def panels(self) -> list[Panel]:
        return distinct(self.table, [Panel(measure, f"{measure} removed", tuple(self.titles)) for measure in measures(self.model.spec)])

    @property
    def n_documents(self) -> int:
        return len(self.tokens)

    @property
    def measured(self) -> dict[str, str]:
        """What was measured and on what."""
        facts = {
            "Calibration": f"{read(self.calibration, 'calibration', self.calibration.documents)}; LaCo and one-shot removal read the first "
            "of them",
            "Losses": read(self.text, "held-out", self.n_documents, int(self.tokens.sum())),
            "Unpruned loss": f"{bounded(ratio(self.nll, self.tokens))} nats per token",
            "Sizes": f"{', '.join(map(percent, self.targets))} of the block parameters, within {100 * TOLERANCE:g} points where met",
        }
        tasks = ", ".join(f"{t} ({len(a.values)})" for t, a in zip(self.tasks, self.answers, strict=True))
        return facts | ({"Tasks": tasks} if tasks else {})

    @cached_property
    def rises(self) -> pd.DataFrame:
        """The rise in loss, one row a method, one column a size."""
        found = {(p.method, p.target): bounded(self.rise(p)) for p in self.reached}
        rows = [(title, *(found.get((name, t), "") for t in self.targets)) for name, title in self.titles.items()]
        return pd.DataFrame(rows, columns=["method", *(percent(t) for t in self.targets)])

    @cached_property
    def sizes(self) -> pd.DataFrame:
        """What every pruned model lacks, measured from it."""
        rows = [
            (METHODS[p.method].title, percent(p.target), f"{p.level:g}{p.note and f' ({p.note})'}", *map(percent, p.size))
            for p in self.reached
            if p.size
        ]
        shown = ["method", "target", "level", *measures(self.model.spec)]
        return pd.DataFrame(rows, columns=["method", "target", "level", *MEASURES])[shown]

    @property
    def at_quarter(self) -> list[PrunedPoint]:
        return [point for point in self.reached if point.target == self.paper_n_removed]

    @cached_property
    def scores(self) -> Accuracies:
        return Accuracies(self.model.spec.name, self.tasks, self.answers, tuple(self.reached), self.paper_n_removed)

    @cached_property
    def paper(self) -> pd.DataFrame:
        """What the paper prints of this model in per cent, and what follows from its scores; empty for models that it has not."""
        rows = printed(self.model.spec.name)
        shares = [f"{100 * row.mean / rows[0].mean:.2f}" for row in rows]
        table = [
            (r.method, f"{r.average:.2f}", f"{r.mean:.2f}", f"{r.retained:.2f}", share, "; ".join(r.contradictions(rows[0])))
            for r, share in zip(rows, shares, strict=True)
        ]
        return pd.DataFrame(table, columns=["method", "average", "mean of the scores", "retained", "retained by the means", "marked"])

    @cached_property
    def beside(self) -> pd.DataFrame:
        """The paper's methods at its size, as printed and here: what is gone of all parameters, the rise in loss and, where there
        are tasks that both have, the share of their mean that is retained."""
        rows, ours = printed(self.model.spec.name), {METHODS[p.method].title: p for p in self.at_quarter}
        both, table = self.scores.in_both, []
        for row in rows[1:]:
            p = ours.get(row.method)
            gone, rise = (percent(p.size.params), bounded(self.rise(p))) if p and p.size else ("", "")
            kept = self.scores.retained(p.answers, both) if p and both else ""
            shares = [f"{100 * row.over(both) / rows[0].over(both):.2f}", kept] if both else []
            table.append((row.method, f"{row.removed:g}\u00a0%", gone, rise, *shares))
        shares = [f"retained, printed (over {len(both)} of {len(COLUMNS)} tasks)", f"retained here (the same {len(both)})"]
        names = ["removed, printed", "removed here", "rise in loss here", *(shares if both else [])]
        return pd.DataFrame(table, columns=["method", *names])

    @property
    def compared_with(self) -> str:
        """Whether there is anything to hold against the paper, and against the dense model's accuracy."""
        said = [] if self.tasks else ["No benchmarks were requested: see the parameter `tasks`."]
        if not len(self.paper):
            said.append(f"The paper's Table 1 has no row of {self.name}; its results are shown for the four models that it has.")
        return " ".join(said)

    @property
    def missed(self) -> str:
        """Which methods did not reach a size, and which were left out, with reasons."""
        said: dict[str, list[str]] = {}
        for p in self.points:
            if p.nll is None:
                said.setdefault(p.why, []).append(percent(p.target))
        missed = [f"Not reached, {', '.join(targets)}: {escape(why)}." for why, targets in said.items()]
        return "\n\n".join([*(missed or ["Every method reached every size."]), *map(escape, self.skipped)])

    @cached_property
    def conclusion(self) -> str:
        """Which method is best at each size, and where the paper's stands at its own."""
        clauses: dict[str, list[str]] = {}
        for target in self.targets:
            clauses.setdefault(findings.best(self._losses(target), self.tokens) + self._besides(target), []).append(percent(target))
        said = [f"With {listed(targets)} of the block parameters removed, {clause}." for clause, targets in clauses.items()]
        stands = findings.against(METHODS["shortgpt"].title, self._losses(self.paper_n_removed), self.tokens) + self._besides(
            self.paper_n_removed
        )
        return " ".join([*said, f"At the paper's size, {stands}."])

    def _losses(self, target: float) -> dict[str, Array]:
        return {METHODS[p.method].title: p.nll for p in self.points if p.target == target and p.nll is not None}

    def _besides(self, target: float) -> str:
        return findings.besides([METHODS[p.method].title for p in self.points if p.target == target and p.nll is None])

    limits, version = LIMITS, VERSION


def _target(model: BlockModel, count: int) -> float:
    """The share of the block parameters that so many blocks are."""
    return without_last(model, count).block_params


def targets_of(model: BlockModel) -> tuple[float, ...]:
    """The paper's size and three more, as whole numbers of blocks: sizes that every method can come near."""
    n = len(model.blocks)
    counts = {paper_n_removed(n), *(min(max(1, round(share * n)), n - 1) for share in OTHERS)}
    return tuple(_target(model, count) for count in sorted(counts))


def takes(spec: ModelSpec) -> Takes:
    """Single blocks on calibration text, and every method at four sizes: about seven passes each, and what solving takes."""
    singles = plan(spec, single_ablations(spec, ["blocks"])).flops_per_token
    return Takes({"single blocks, calibration": singles, "pruned models": 7 * 4 * len(METHODS) * spec.flops_per_token}, 6)


def compare_methods(
    model: BlockModel, config: RunConfig, *, tasks: Sequence[TaskSet] = (), methods: Sequence[str] = tuple(METHODS)
) -> Methods:
    """Prunes `model` by every one of `methods` that is for it, at every size, and scores the results.

    `tasks` are scored as well. A size that a method does not reach is a point without a loss.
    Raises StrataError as `Text.windows`, `has_options` and the methods do.
    """
    for one in tasks:
        has_options(one)  # before anything is scored
    config = config.within(model)
    text = config.text().at_most(config.documents or config.budget.documents, model)
    calibration = calibration_for(model, text)
    bench, targets = MethodRuns(model, text, calibration, tasks, config.out), targets_of(model)
    dense, found = bench.dense()
    asked = [(name, target) for name in known(model, methods) for target in targets]
    points = []
    for i, (name, target) in enumerate(asked):
        config.progress(f"{METHODS[name].title}, {percent(target)}", i / len(asked))
        points.append(bench.point(name, target))
    config.progress("methods", 1)
    names, measured = tuple(one.name for one in tasks), (dense["nll"], dense["tokens"], found)
    return Methods(model, text, calibration, targets, *measured, names, tuple(points), skipped(model, methods))


def known(model: BlockModel, methods: Sequence[str]) -> list[str]:
    """Those of `methods` that are for the model."""
    return [name for name in methods if not _reason(name, model)]


def skipped(model: BlockModel, methods: Sequence[str]) -> tuple[str, ...]:
    """Sentences on the others."""
    said: dict[str, list[str]] = {}
    for name in methods:
        if why := _reason(name, model):
            said.setdefault(why, []).append(METHODS[name].title)
    return tuple(f"{why}: {', '.join(titles)}." for why, titles in said.items())


def _reason(name: str, model: BlockModel) -> str:
    """Why a method is left out; empty when it is not."""
    method, spec = METHODS[name], model.spec
    what = method.lacks(model)
    reasons = {
        f"Not available for {spec.family} (it takes {what})": bool(what),
        f"Not available for quantised weights ({spec.quantised}), which they would use as floats": method.floats and bool(spec.quantised),
        "Not available for streamed weights, of which they would make new ones": method.floats and model.reader is not None,
        "Identical to LaCo where it merges two blocks into one": name == "laco_eq1" and laco.merge_width(len(spec.blocks)) == 2,
        "Identical to LLM-Pruner without grouped queries": name == "llm_pruner_published" and not llm_pruner.grouped(spec),
    }
    return next((why for why, holds in reasons.items() if holds), "")
