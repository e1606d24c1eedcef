"""From documents to records: the one place where batches of documents are scored into a run, whatever the study."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from adapters.ablation import Ablation
from adapters.base import BlockModel
from analysis.data.batches import Batch, encode, tokenizer_of
from analysis.data.documents import Window
from analysis.runs.records import Records, Scores, Work
from analysis.runs.run import Run

COUNTED = ("tokens", "bytes")  # what a record of a text has beside the metrics of a study
Answer = Callable[[Work, Sequence[int]], Iterator[tuple[Sequence[int], Mapping[str, np.ndarray]]]]


@dataclass(frozen=True)
class Question:
    """What a study asks: `metrics` of every one of `ablations` on every document."""

    ablations: Sequence[Ablation]
    metrics: Sequence[str]
    documents: Sequence[str]
    keys: Sequence[Sequence[str]]  # of each document, what its scores are kept under: itself, or each of its requests

    @classmethod
    def of(cls, ablations: Sequence[Ablation], metrics: Sequence[str], windows: Sequence[Window]) -> Question:
        """About a text."""
        return cls(ablations, metrics, [window.id for window in windows], [[window.id] for window in windows])

    def answer(self, records: Records, counted: Sequence[str] = ()) -> Scores:
        """By metric, (ablations, keys of all documents); those `counted` without ablations."""
        return records.scores([*self.metrics, *counted], self.ablations, [key for keys in self.keys for key in keys])


def map_documents(
    run: Run, asked: Question, answer: Answer, about: Mapping[str, object], skipped: Callable[[int], None] = lambda n: None
) -> Records:
    """Scores what `run` does not hold yet of what is asked, and returns all that it holds.

    `answer` is given what some documents lack, and their indices; it gives batch by batch the indices and the scores, each
    (ablations that are lacking, keys of the batch), or (keys,) for what has no ablations. A batch whose ablations lack the same is
    one record, whole or not at all.
    `skipped` is told how many documents lack nothing.
    """
    run.ask(asked.ablations, asked.documents)
    held = run.records()
    todo = held.missing(asked.metrics, asked.ablations, asked.keys)
    skipped(len(asked.documents) - sum(map(len, todo.values())))
    if not todo:
        return held
    with run.writing(about):
        for work, which in todo.items():
            for batch, scores in answer(work, which):
                for ablations, new in work.split(scores):
                    run.add(ablations, [key for d in batch for key in asked.keys[d]], new)
    return run.records()


def on_windows(
    windows: Sequence[Window], model: BlockModel, size: Callable[[Work], int], score: Callable[[Batch, Work], Mapping[str, np.ndarray]]
) -> Answer:
    """The answer of a study of text: `size(work)` windows at once, scored by `score`."""

    def answer(work: Work, which: Sequence[int]) -> Iterator[tuple[Sequence[int], Mapping[str, np.ndarray]]]:
        each = size(work)
        for first in range(0, len(which), each):
            part = which[first : first + each]
            batch = encode([windows[d] for d in part], tokenizer_of(model))
            yield part, {**score(batch, work), "tokens": batch.tokens, "bytes": batch.bytes}

    return answer
