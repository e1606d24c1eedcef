"""Tasks whose answers a model writes, under every ablation: texts are kept in a run, and lm_eval's metrics are made from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from adapters.ablation import Ablation
from adapters.base import BlockModel
from adapters.errors import StrataError
from analysis.engine.ablations import row_key
from analysis.engine.plan import Plan, plan
from analysis.engine.row_budget import Prompt
from analysis.engine.sampling import Sampling
from analysis.runs.scoring import Scoring
from analysis.runs.tables import COLUMNS, KEY, key, tidy, write_table
from analysis.runs.writing import OfWrittenTexts, WritingStudy
from analysis.stats.intervals import Interval, accuracy, differs_by_family, ratio
from analysis.tasks import Metric, TaskSet
from analysis.tasks.requests import prompt_ids
from analysis.tasks.study import TaskStudy

MOST = 256  # new tokens where a task says nothing: HFLM's
TOP_K = 50  # where a task samples and says nothing: transformers'
KNOWN = {"until", "do_sample", "temperature", "top_p", "top_k", "max_gen_toks"}


@dataclass(frozen=True)
class WrittenTaskStudy(OfWrittenTexts):
    """Every ablation of a plan on the documents of a task set; `most` new tokens instead of what tasks say."""

    model: BlockModel
    plan: Plan
    tasks: TaskSet
    most: int | None = None
    memory: int | None = None  # bytes of pasts and logits

    @classmethod
    def of(cls, model: BlockModel, ablations: Sequence[Ablation], tasks: TaskSet, **options: Any) -> WrittenTaskStudy:
        return cls(model, plan(model.spec, ablations), tasks, **options)

    @cached_property
    def _asked(self) -> list[tuple[str, Prompt]]:
        """The context and the prompt of each document."""
        return [(item.instances[0].args[0], prompt_of(self.model, *item.instances[0].args, most=self.most)) for item in self.tasks.items]

    @cached_property
    def repeats(self) -> list[int]:
        """Texts of each document."""
        return [item.instances[0].repeats or 1 for item in self.tasks.items]

    @cached_property
    def writing(self) -> WritingStudy:
        """The repeats of a document differ in their seeds."""
        prompts, names = [], []
        for item, (_, prompt), n in zip(self.tasks.items, self._asked, self.repeats, strict=True):
            prompts += [prompt._replace(sampling=replace(prompt.sampling, seed=seed)) for seed in range(n)]
            names += [f"{item.task}:{item.number}"] * n
        return WritingStudy(self.model, self.plan, prompts, names, self.memory)

    @property
    def cut(self) -> int:
        """Prompts that lose tokens on the left, as in lm_eval, so that what is written has room."""
        return sum(len(prompt_ids(self.model, context)) > len(prompt.tokens) for context, prompt in self._asked)

    @property
    def documents(self) -> list[str]:
        """What the table calls the documents, in their order."""
        ends = np.cumsum([0, *self.repeats])
        return ["-".join(self.writing.keys[a:b]) for a, b in pairwise(ends.tolist())]

    def only(self, documents: Sequence[int]) -> WrittenTaskStudy:
        """The same on some of the documents, by number."""
        return replace(self, tasks=replace(self.tasks, items=[self.tasks.items[d] for d in documents]))

    def scoring(self, progress: Callable[[int], None] = lambda n: None) -> Scoring:
        """Raises StrataError where documents have several texts: in shards each has one."""
        if max(self.repeats, default=1) > 1:
            raise StrataError(f"{self.tasks.name} samples several texts of a document, which shards do not divide: run it on one machine")
        return super().scoring(progress)

    def run(self, folder: Path, progress: Callable[[int], None] = lambda n: None) -> pd.DataFrame:
        """Writes what the folder does not hold yet and returns the tidy table, also written as summary.csv."""
        table = written_table(self, self.writing.texts(folder, progress))
        return write_table(self.open(folder), table, self.documents, self.model.spec)

    def metrics(self, texts: np.ndarray) -> dict[str, dict[str, Metric]]:
        """lm_eval's, of the texts of one ablation (texts of all documents,)."""
        ends = np.cumsum(self.repeats)[:-1]
        return self.tasks.metrics([[[text["text"] for text in each]] for each in np.split(texts, ends)])


def study_of(
    model: BlockModel, ablations: Sequence[Ablation], tasks: TaskSet, *, memory: int | None = None, most: int | None = None
) -> TaskStudy | WrittenTaskStudy:
    """A benchmark under each ablation: of answers that are scored, or of such as the model writes, `most` new tokens each."""
    if tasks.written:
        return WrittenTaskStudy.of(model, ablations, tasks, memory=memory, most=most)
    return TaskStudy.of(model, ablations, tasks, memory=memory)


def prompt_of(model: BlockModel, context: str, asked: Mapping[str, Any], *, most: int | None = None) -> Prompt:
    """A request of lm_eval as HFLM reads it: cut on the left so that what is written has room. Raises StrataError when nothing is left."""
    from lm_eval.models.utils import normalize_gen_kwargs

    options = normalize_gen_kwargs(dict(asked), MOST)
    if unknown := options.keys() - KNOWN:
        raise StrataError(f"the task asks for {', '.join(sorted(unknown))} of generation, and {', '.join(sorted(KNOWN))} are supported")
    until = options.get("until") or []
    new = most or options["max_gen_toks"]
    if new >= model.spec.max_len:
        raise StrataError(
            f"the task asks for {new} new tokens, and {model.spec.name} reads {model.spec.max_len} with its prompt: ask for fewer "
            "(`max_tokens`)"
        )
    sampling = Sampling()
    if options["do_sample"] and options["temperature"]:
        sampling = Sampling(options["temperature"], options.get("top_p", 1.0), options.get("top_k", TOP_K))
    until = tuple([until] if isinstance(until, str) else until)
    return Prompt(prompt_ids(model, context, model.spec.max_len - new), new, until, sampling)


def written_table(study: WrittenTaskStudy, texts: np.ndarray, found: Sequence[dict[str, dict[str, Metric]]] | None = None) -> pd.DataFrame:
    """Rows by task and ablation, the dense model first: lm_eval's metrics, `delta_...` of those that are means, and a test.

    `p_value`, `p_adjusted` and `significant` are of the first of these metrics being other than the dense model's; ablations of the
    same kind are a family. `found`: the metrics of each ablation, where they are known.
    """
    plan = study.plan
    found = [study.metrics(row) for row in texts] if found is None else found
    written = np.vectorize(lambda text: len(text["tokens"]), otypes=[int])(texts).sum(1)
    kinds = [row_key(study.model.spec, ablation).kind for ablation in plan.ablations]
    rows = []
    for name, each in of_documents(study.tasks, found).items():
        first = np.stack([documents[next(iter(each[0]))] for documents in each])
        test = differs_by_family(kinds, first - first[0], np.ones(first.shape[1]))
        for a, ablation in enumerate(plan.ablations):
            values = _values(each[a], each[0] if a else None, found[a].get(name, {}))
            if a:
                values |= {metric: Interval(value, None, None) for metric, value in test.of(a).items()}
            about, n = key(study.model.spec, ablation), first.shape[1]
            rows += [(*about, name, metric, *interval, n, int(written[a])) for metric, interval in values.items()]
    return tidy(rows, [*KEY, *COLUMNS[len(KEY) :]])


def of_documents(tasks: TaskSet, found: Sequence[Mapping[str, Mapping[str, Metric]]]) -> dict[str, list[dict[str, np.ndarray]]]:
    """By task and group, and ablation: the metrics that are means over documents, where there are any."""
    out = {}
    for name in dict.fromkeys([*tasks.groups, *tasks.tasks]):
        members = [member for member in tasks.members(name) if member in tasks.tasks]
        each = [_documents(metrics, members) for metrics in found]
        if each[0]:
            out[name] = each
    return out


def _documents(metrics: Mapping[str, Mapping[str, Metric]], members: Sequence[str]) -> dict[str, np.ndarray]:
    """Of metrics that all members have, and that are means over documents: their values, one member after the other."""
    parts = {
        metric: [metrics[member][metric].documents for member in members if metric in metrics[member]] for metric in metrics[members[0]]
    }
    whole = {metric: [part for part in found if part is not None] for metric, found in parts.items()}
    return {metric: np.concatenate(found) for metric, found in whole.items() if len(found) == len(members)}


def _values(each: Mapping[str, np.ndarray], dense: Mapping[str, np.ndarray] | None, metrics: Mapping[str, Metric]) -> dict[str, Interval]:
    values = {metric: Interval(found.value, None, None) for metric, found in metrics.items()}
    for metric, documents in each.items():
        interval = _interval(documents)
        if metric not in values or np.isclose(values[metric].value, interval.value, rtol=1e-9):
            values[metric] = interval
        if dense is not None:
            values[f"delta_{metric}"] = _interval(documents, dense[metric])
    return values


def _interval(documents: np.ndarray, dense: np.ndarray | None = None) -> Interval:
    """Of a mean over documents, or of its difference from the dense model's; of right or wrong answers as such."""
    both = documents if dense is None else np.concatenate([documents, dense])
    if np.isin(both, (0, 1)).all():
        return accuracy(documents, dense)
    return ratio(documents if dense is None else documents - dense, np.ones(len(documents)))
