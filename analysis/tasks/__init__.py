"""Benchmarks as lm_eval defines them: its documents, prompts, few-shot samples and metrics; the log-likelihoods are ours.

lm_eval is imported where it is used: it takes seconds.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from adapters.base import BlockModel
from adapters.errors import StrataError, one_line
from analysis.tasks.code_eval import CODE_EVAL, own_code_eval
from analysis.tasks.index import folders_of
from analysis.tasks.local import reading_from
from analysis.tasks.requests import Request, pair, rolling

WRITTEN = "generate_until"  # lm_eval's type of tasks whose answers a model writes
SEED = 1234  # lm_eval's own, of the few-shot examples
Outcome = tuple[float, bool] | float | list[str]  # of one instance, as an lm_eval model gives it; texts of all repeats


class Item(NamedTuple):
    """One document of a task and the questions that lm_eval asks about it."""

    task: str
    number: int
    doc: Mapping[str, Any]
    instances: list[Any]  # lm_eval's, in the order of the options


class Metric(NamedTuple):
    value: float  # aggregated as lm_eval does
    documents: np.ndarray | None  # its value in each document, where its mean is the metric


@dataclass(frozen=True)
class TaskSet:
    """A task, or the tasks that a group or a tag stands for; documents are in lm_eval's order."""

    name: str
    tasks: dict[str, Any]  # lm_eval's
    groups: dict[str, Any]
    items: list[Item]

    @property
    def written(self) -> bool:
        """Whether a model writes the answers."""
        return any(task.OUTPUT_TYPE == WRITTEN for task in self.tasks.values())

    def requests(self, model: BlockModel) -> list[list[Request]]:
        """Of each item. Raises StrataError when the model has no tokenizer, or no token to stand for an empty context."""
        return [[request for instance in item.instances for request in _encode(model, instance)] for item in self.items]

    def outcomes(self, item: Item, nats: np.ndarray, greedy: np.ndarray) -> list[Outcome]:
        """Of the instances of an item, from what the requests of `requests` gave for one ablation; nothing is encoded for it again."""
        if item.instances[0].request_type == "loglikelihood_rolling":
            (_,) = item.instances  # a whole text: the requests are its windows
            return [float(nats.sum())]
        return [(float(found), bool(likeliest)) for found, likeliest in zip(nats, greedy, strict=True)]

    def metrics(self, outcomes: Sequence[Sequence[Outcome]]) -> dict[str, dict[str, Metric]]:
        """By task or group, then by metric: lm_eval's `process_results` and aggregation on the outcomes of each item."""
        for item, found in zip(self.items, outcomes, strict=True):
            for instance, outcome in zip(item.instances, found, strict=True):
                instance.resps = outcome if isinstance(outcome, list) else [outcome] * (instance.repeats or 1)
                instance.filtered_resps = {}
        out = {name: _task_metrics(task, [item for item in self.items if item.task == name]) for name, task in self.tasks.items()}
        flat = {name: _as_lm_eval(out[name], sum(item.task == name for item in self.items)) for name in self.tasks}
        for name, group in self.groups.items():
            pooled = {k.removesuffix(",none"): v for k, v in group.aggregate(flat).items() if "," in k and "_stderr," not in k}
            out[name] = {metric: Metric(float(value), None) for metric, value in pooled.items()}
        return out

    def members(self, name: str) -> list[str]:
        """The tasks of a group, of the whole set, or the task itself."""
        if name in self.groups:
            return [task.task_name for task in self.groups[name].get_all_tasks()]
        return [name] if name in self.tasks else list(self.tasks)

    def gold(self, item: Item) -> tuple[list[int], int]:
        """Indices of the right options, and how many options there are; ([], 0) for a task without options."""
        task = self.tasks[item.task]
        if task.OUTPUT_TYPE != "multiple_choice":
            return [], 0
        choices = task.doc_to_choice(item.doc)
        answer = task.doc_to_text(item.doc) if task.multiple_input else task.doc_to_target(item.doc)
        answers = answer if isinstance(answer, list) else [answer]
        found = [choices.index(a) if isinstance(a, str) and a in choices else a for a in answers]
        return [a for a in found if isinstance(a, int) and 0 <= a < len(choices)], len(choices)


def load_tasks(
    name: str,
    *,
    shots: int | None = None,
    limit: int | None = None,
    seed: int = SEED,
    data: Path | None = None,
    run_code: bool = False,
) -> TaskSet:
    """Documents and requests of a task, group or tag by lm_eval's own code, as `lm_eval.simple_evaluate` makes them.

    `limit` documents of each task. With `data`, rows come from files in that folder instead of the hub (`analysis.tasks.local`).
    With `run_code`, programs that a model writes are run, in a sandbox (`analysis.tasks.sandbox`).
    Raises StrataError on an unknown name, on tasks that run programs without `run_code` or where they cannot be isolated, on tasks of
    which some are written and some are not, on documents without a right answer, when the hub cannot be reached and when files are
    missing or malformed.
    """
    folders = folders_of(name)
    if run_code:
        CODE_EVAL.allow()
    with _quiet(), own_code_eval(), reading_from(data, name):
        from lm_eval.tasks import TaskManager

        loaded = TaskManager(include_path=folders, include_defaults=False).load([name])
        _refuse(loaded["tasks"], run_code)
        items = [item for task_name, task in loaded["tasks"].items() for item in _items(task_name, task, shots, limit, seed)]
    tasks = TaskSet(name, dict(loaded["tasks"]), dict(loaded["groups"]), items)
    for task_name, task in tasks.tasks.items():
        _remember(task, [item.doc for item in items if item.task == task_name])
    for item in items:
        right, options = tasks.gold(item)
        if options and not right:
            raise StrataError(f"document {item.number} of {item.task} has no right answer: use a split with labels")
    return tasks


def _items(name: str, task: Any, shots: int | None, limit: int | None, seed: int) -> list[Item]:
    """Few-shot counts and seeds as `simple_evaluate` sets them: a task that asks for none gets none."""
    default = task.get_config("num_fewshot")
    if default != 0:
        task.set_config(key="num_fewshot", value=(default or 0) if shots is None else shots)
    task.set_fewshot_seed(seed=seed)
    if task.get_config("num_fewshot") and task.config.fewshot_split is None and task.has_training_docs():
        asked, examples = task.eval_docs, task.training_docs()
        if len(asked) == len(examples) and asked[0] == examples[0]:
            raise StrataError(f"the files of {name} hold no examples of their own: give train files too, or `shots` 0")
    try:
        task.build_all_requests(limit=limit)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise StrataError(f"lm_eval cannot make the requests of {name}: {one_line(error)}") from error
    by_document: dict[int, list[Any]] = {}
    for instance in task.instances:
        by_document.setdefault(instance.doc_id, []).append(instance)
    return [Item(name, n, found[0].doc, sorted(found, key=lambda i: i.idx)) for n, found in by_document.items()]


def _refuse(tasks: Mapping[str, Any], run_code: bool) -> None:
    for task_name, task in tasks.items():
        if getattr(task, "MULTIMODAL", False):
            raise StrataError(f"{task_name} needs pictures or sound: choose a task of text")
        if getattr(task, "UNSAFE_CODE", False) and not run_code:
            raise StrataError(f"{task_name} runs programs that the model writes: allow it with `run_code`, which runs them in a sandbox")
    kinds = {task.OUTPUT_TYPE == WRITTEN for task in tasks.values()}
    if len(kinds) > 1:
        raise StrataError("of these tasks some have text written and others options scored: choose the one kind or the other")


def _encode(model: BlockModel, instance: Any) -> list[Request]:
    if instance.request_type == "loglikelihood_rolling":
        return rolling(model, instance.args[0])
    return [pair(model, *instance.args)]


def _task_metrics(task: Any, items: Sequence[Item]) -> dict[str, Metric]:
    from lm_eval.api.metrics import mean

    task.apply_filters()
    values: dict[str, list[Any]] = {}
    for item in items:
        for filtered in item.instances[0].filtered_resps:
            found = task.process_results(item.doc, [instance.filtered_resps[filtered] for instance in item.instances])
            for metric, value in found.items():
                values.setdefault(metric if filtered == "none" else f"{metric},{filtered}", []).append(value)
    out = {}
    for metric, each in values.items():
        aggregate = task.aggregation().get(metric.split(",")[0], mean)
        is_mean = aggregate is mean and all(np.isscalar(value) for value in each)
        out[metric] = Metric(float(aggregate(each)), np.array(each, dtype=float) if is_mean else None)
    return out


def _as_lm_eval(metrics: Mapping[str, Metric], documents: int) -> dict[str, Any]:
    """Metrics of a task under the keys that lm_eval's groups look for."""
    return {(m if "," in m else f"{m},none"): metric.value for m, metric in metrics.items()} | {"sample_len": documents}


def _remember(task: Any, docs: Sequence[Mapping]) -> None:
    """Templates of documents are rendered once, not once for every ablation."""
    known = {id(doc) for doc in docs}  # all alive as long as the task set is

    def recall(render: Callable, held: dict[int, Any], doc: Mapping, *more: Any) -> Any:
        if more or id(doc) not in known:
            return render(doc, *more)
        if id(doc) not in held:
            held[id(doc)] = render(doc)
        return held[id(doc)]

    for name in ("doc_to_text", "doc_to_target", "doc_to_choice"):
        if hasattr(task, name):
            setattr(task, name, partial(recall, getattr(task, name), {}))


@contextmanager
def _quiet() -> Iterator[None]:
    """lm_eval reports on stderr what it does; its progress bars cannot be turned off."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
