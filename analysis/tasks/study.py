"""A benchmark under every ablation, as a resumable run: log-likelihoods are kept, and lm_eval's metrics are made from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from adapters.ablation import Ablation
from adapters.base import BlockModel
from adapters.errors import StrataError
from analysis.data.batches import Text
from analysis.data.hashes import content_hash
from analysis.engine.plan import Plan, plan
from analysis.runs.records import Work
from analysis.runs.run import Run
from analysis.runs.scoring import Question, Scoring, map_documents
from analysis.runs.sweep_run import identity, steps, tokenization
from analysis.runs.tables import COLUMNS, KEY, key, tidy, write_table
from analysis.stats.intervals import Interval, Significance, accuracy, differs_by_family, ratio
from analysis.tasks import Item, Metric, TaskSet
from analysis.tasks.chances import METRICS, chance_free
from analysis.tasks.likelihoods import Likelihoods, batches, likelihoods
from analysis.tasks.requests import Request, tree_size

PAIRED = ("acc", "acc_norm", "log_loss", "brier", "nll")  # metrics whose difference from the dense model is given

KEPT = ("nats", "greedy")  # metrics of each request in the records


@dataclass(frozen=True)
class TaskStudy:
    """Every ablation of a plan on the documents of a task set."""

    model: BlockModel
    plan: Plan
    tasks: TaskSet
    memory: int | None = None  # bytes

    def __post_init__(self) -> None:
        if bad := next((a for a in self.plan.ablations if a.edit != "zero"), None):
            raise StrataError(f"benchmarks are scored without parts that leave nothing behind, not {bad}: take the edit zero")
        if self.tasks.written:
            raise StrataError(f"the answers of {self.tasks.name} are written, not scored: choose tasks of options or log-likelihood here")

    @classmethod
    def of(cls, model: BlockModel, ablations: Sequence[Ablation], tasks: TaskSet, **options: Any) -> TaskStudy:
        return cls(model, plan(model.spec, ablations), tasks, **options)

    @property
    def identity(self) -> dict[str, Any]:
        """Requests name themselves in the records, by hash, as ablations do: more of either, or other shots, go on in the same folder."""
        about = identity(self.model, Text())
        return {k: about[k] for k in ("model", "dtype", "device")} | {"task": self.tasks.name, "text": tokenization(self.model)}

    @cached_property
    def requests(self) -> list[list[Request]]:
        return self.tasks.requests(self.model)

    @cached_property
    def keys(self) -> list[list[str]]:
        return [[content_hash(request) for request in requests] for requests in self.requests]

    @property
    def cut(self) -> int:
        """Requests that do not fit into the model's context and lose tokens on the left, as in lm_eval."""
        return sum(request.is_cut(self.model.spec.max_len) for requests in self.requests for request in requests)

    @property
    def tokens(self) -> int:
        """That go through the blocks for one ablation, were all requests one tree."""
        return tree_size((request for requests in self.requests for request in requests), self.model.spec.max_len)

    @property
    def steps(self) -> int:
        """What `progress` counts up to: streams that leave a block, times documents."""
        return steps(self.plan) * len(self.tasks.items)

    @property
    def documents(self) -> list[str]:
        """What the table calls the documents, in their order."""
        return [content_hash(keys) for keys in self.keys]

    @property
    def flops(self) -> int:
        """Of the whole study, about."""
        return self.plan.flops_per_token * self.tokens

    @property
    def window(self) -> int:
        """Tokens of a question, about."""
        return min(self.model.spec.max_len, max(1, self.tokens // max(1, len(self.documents))))

    def only(self, documents: Sequence[int]) -> TaskStudy:
        """The same on some of the documents, by number."""
        return replace(self, tasks=replace(self.tasks, items=[self.tasks.items[d] for d in documents]))

    def open(self, folder: Path) -> Run:
        return Run(folder, self.identity, KEPT)

    def run(self, folder: Path, progress: Callable[[int], None] = lambda n: None) -> pd.DataFrame:
        """Scores what the folder does not hold yet and returns the tidy table, also written as summary.csv, as by SweepStudy.run."""
        table = task_table(self, *self.scores(folder, progress))
        return write_table(self.open(folder), table, self.documents, self.model.spec)

    def scores(self, folder: Path, progress: Callable[[int], None] = lambda n: None) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Log-likelihoods in nats, and whether they are greedy: of each document, (ablations, requests)."""
        scoring = self.scoring(progress)
        found = scoring.asked.answer(map_documents(self.open(folder), scoring))
        ends = np.cumsum([len(keys) for keys in self.keys])[:-1]
        return np.split(found["nats"], ends, -1), np.split(found["greedy"], ends, -1)

    def scoring(self, progress: Callable[[int], None] = lambda n: None) -> Scoring:
        def units(work: Work, which: Sequence[int]) -> list[Sequence[int]]:
            lacking = plan(self.model.spec, work.ablations)
            return [which[where] for where in batches(self.model, lacking, [self.requests[d] for d in which], self.memory)]

        def answer(work: Work, which: Sequence[int]) -> Iterator[tuple[Sequence[int], Mapping[str, np.ndarray]]]:
            lacking = plan(self.model.spec, work.ablations)
            rows = [lacking.ablations.index(ablation) for ablation in work.ablations]
            progress((steps(self.plan) - steps(lacking)) * len(which))  # the rest is known
            for unit in units(work, which):
                found = self._likelihoods(lacking, unit, progress)
                yield unit, {"nats": found.nats.numpy()[rows], "greedy": found.greedy.numpy()[rows]}

        asked = Question(self.plan.ablations, KEPT, self.documents, self.keys)
        about = {"spec": asdict(self.model.spec), "requests_hash": content_hash(self.keys), "cut": self.cut, "tokens": self.tokens}
        return Scoring(asked, about, units, answer, lambda n: progress(n * steps(self.plan)))

    def requests_of(self, documents: Sequence[int]) -> tuple[list[Request], list[str]]:
        """The requests of documents, and what errors call them."""
        requests = [request for d in documents for request in self.requests[d]]
        return requests, [f"{self.tasks.items[d].task}:{self.tasks.items[d].number}" for d in documents for _ in self.requests[d]]

    def _likelihoods(self, lacking: Plan, documents: Sequence[int], progress: Callable[[int], None]) -> Likelihoods:
        requests, names = self.requests_of(documents)
        return likelihoods(
            self.model, lacking, requests, memory=self.memory, names=names, progress=lambda streams: progress(streams * len(documents))
        )


def task_table(study: TaskStudy, nats: Sequence[np.ndarray], greedy: Sequence[np.ndarray]) -> pd.DataFrame:
    """`by_ablation` of single parts as rows of a result table, the dense model first."""
    keys = [key(study.model.spec, ablation) for ablation in study.plan.ablations]
    table = by_ablation(study, nats, greedy, [kind for _, kind, *_ in keys])
    names = tidy([keys[a] for a in table["ablation"]], KEY)
    return pd.concat([names, table[COLUMNS[len(KEY) :]]], axis=1)


def by_ablation(
    study: TaskStudy, nats: Sequence[np.ndarray], greedy: Sequence[np.ndarray], kinds: Sequence[str], bare: str = ""
) -> pd.DataFrame:
    """Rows by task and number of the ablation in the plan, the dense model first: lm_eval's metrics, and beside them

    `log_loss`, `brier`, `above_chance` (see `chance_free`) of tasks with options, `nll` of all others (nats per token);
    `delta_...` of each of `PAIRED` against the dense model; `p_value`, `p_adjusted` and `significant` of the loss being other than
    the dense model's, where ablations of the same kind are a family (see `analysis.stats.intervals.Significance`); and `beats_chance`: 1
    where accuracy is significantly higher than that of guessing, in the same families; the dense model stands for itself. `kinds`:
    of each ablation, the dense model's first; of the kind `bare` there are values without intervals.
    """
    found = _metrics(study, nats, greedy)
    rows = []
    for name, each in of_documents(study, nats, greedy).items():
        documents, counts = _of_task(study, name)
        loss, beats = _test(kinds, each), _beats_chance(kinds, each)
        for a, metrics in enumerate(each):
            values = _values(metrics, each[0] if a else None, found[a].get(name, {}), bare=kinds[a] == bare)
            if a and loss is not None:
                values |= {name: Interval(value, None, None) for name, value in loss.of(a).items()}
            if beats is not None:
                values["beats_chance"] = Interval(float(beats[a]), None, None)
            rows += [(a, kinds[a], name, metric, *interval, len(documents), int(counts.sum())) for metric, interval in values.items()]
    return tidy(rows, ["ablation", "kind", *COLUMNS[len(KEY) :]])


def of_documents(study: TaskStudy, nats: Sequence[np.ndarray], greedy: Sequence[np.ndarray]) -> dict[str, list[Sums]]:
    """By task and group, and ablation of the plan: the metrics that are means over documents."""
    found, items = _metrics(study, nats, greedy), study.tasks.items
    out: dict[str, list[Sums]] = {}
    for name in dict.fromkeys([*study.tasks.groups, *study.tasks.tasks]):
        documents, counts = _of_task(study, name)
        out[name] = [
            _documents(study, metrics, name, [nats[d][a] for d in documents], [items[d] for d in documents], counts)
            for a, metrics in enumerate(found)
        ]
    return out


def _metrics(study: TaskStudy, nats: Sequence[np.ndarray], greedy: Sequence[np.ndarray]) -> list[dict[str, dict[str, Metric]]]:
    """lm_eval's, of each ablation."""
    tasks = study.tasks
    return [
        tasks.metrics([tasks.outcomes(item, nats[d][a], greedy[d][a]) for d, item in enumerate(tasks.items)])
        for a in range(len(study.plan.ablations))
    ]


def _of_task(study: TaskStudy, name: str) -> tuple[list[int], np.ndarray]:
    """Numbers of a task's documents, and how many tokens are scored of each."""
    members = set(study.tasks.members(name))
    documents = [d for d, item in enumerate(study.tasks.items) if item.task in members]
    return documents, np.array([sum(len(r.continuation) for r in study.requests[d]) for d in documents])


Sums = dict[str, tuple[np.ndarray, np.ndarray]]  # by metric: sums and counts of each document


def _documents(
    study: TaskStudy,
    metrics: dict[str, dict[str, Metric]],
    name: str,
    nats: Sequence[np.ndarray],
    items: Sequence[Item],
    counts: np.ndarray,
) -> Sums:
    """Per document: lm_eval's metrics that are means, and ours. A group's are those of its tasks, one after the other."""
    ones = np.ones(len(items))
    out: Sums = {}
    members = list(dict.fromkeys(item.task for item in items))
    for metric in metrics[members[0]]:
        parts = [metrics[m][metric].documents for m in members if metric in metrics[m]]
        if len(parts) == len(members) and all(part is not None for part in parts):
            out[metric] = (np.concatenate([part for part in parts if part is not None]), ones)
    gold = [study.tasks.gold(item) for item in items]
    if all(options for _, options in gold):
        free = [chance_free(values[:options], right) for values, (right, options) in zip(nats, gold, strict=True)]
        out |= {metric: (np.array([f[metric] for f in free]), ones) for metric in METRICS}
    elif not any(options for _, options in gold):
        out["nll"] = (np.array([-values.sum() for values in nats]), counts.astype(float))
    return out


def interval(metric: str, sums: np.ndarray, counts: np.ndarray, dense: np.ndarray | None = None) -> Interval:
    """Of a metric, or of its difference from the dense model's sums; of lm_eval's right or wrong answers as such."""
    if metric not in (*METRICS, "nll") and np.isin(sums, (0, 1)).all():
        return accuracy(sums, dense)
    if metric == "above_chance":  # the chance of guessing is known: what varies is whether answers are right
        right, value = accuracy(sums > 0), float(sums.mean())
        return Interval(value, *(None if end is None else end + value - right.value for end in right[1:]))
    return ratio(sums if dense is None else sums - dense, counts)


def _values(each: Sums, dense: Sums | None, metrics: dict[str, Metric], *, bare: bool) -> dict[str, Interval]:
    values = {metric: Interval(found.value, None, None) for metric, found in metrics.items()}
    for metric, (sums, counts) in each.items():
        mean = interval(metric, sums, counts)
        # lm_eval's own value stands; the interval is that of the mean over documents, when this is what it is
        if metric not in values or np.isclose(values[metric].value, mean.value, rtol=1e-9):
            values[metric] = mean
        if dense is not None and metric in PAIRED and metric in dense:
            values[f"delta_{metric}"] = interval(metric, sums, counts, dense[metric][0])
    return {metric: Interval(found.value, None, None) for metric, found in values.items()} if bare else values


def _test(kinds: Sequence[str], each: Sequence[Sums]) -> Significance | None:
    """Of the loss against the dense model's; None for tasks without one."""
    loss = next((name for name in ("log_loss", "nll") if name in each[0]), None)
    if loss is None:
        return None
    sums = np.stack([found[loss][0] for found in each])
    return differs_by_family(kinds, sums - sums[0], each[0][loss][1])


def _beats_chance(kinds: Sequence[str], each: Sequence[Sums]) -> np.ndarray | None:
    if "above_chance" not in each[0]:
        return None
    sums = np.stack([found["above_chance"][0] for found in each])
    return differs_by_family(kinds, sums, np.ones(sums.shape[1])).significant & (sums.mean(1) > 0)
