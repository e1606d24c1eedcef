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
    at_once: int | None = None  # ablations that are scored together, so that others need not wait for their record; None: all

    @classmethod
    def of(cls, ablations: Sequence[Ablation], metrics: Sequence[str], windows: Sequence[Window]) -> Question:
        """About a text."""
        return cls(ablations, metrics, [window.id for window in windows], [[window.id] for window in windows])

    def answer(self, records: Records, counted: Sequence[str] = ()) -> Scores:
        """By metric, (ablations, keys of all documents); those `counted` without ablations."""
        return records.scores([*self.metrics, *counted], self.ablations, [key for keys in self.keys for key in keys])


@dataclass(frozen=True)
class Scoring:
    """How a study answers its question. A unit is documents that are scored at once: what is handed to a machine, and lost with it."""

    asked: Question
    about: Mapping[str, object]  # noted in the manifest
    units: Callable[[Work, Sequence[int]], Sequence[Sequence[int]]]  # of documents, by their indices
    answer: Answer  # of one unit or several: batch by batch the indices, and the scores as `Work.split` takes them
    done: Callable[[int], None] = lambda n: None  # told of how many documents nothing is lacking, or somebody else scores them

    @property
    def whole(self) -> Work:
        """What is asked of each document."""
        return Work.of(self.asked.ablations, self.asked.metrics)

    def todo(self, held: Records) -> dict[Work, list[int]]:
        """Documents by what they lack, of as many ablations as are scored together."""
        found: dict[Work, list[int]] = {}
        for work, which in held.missing(self.asked.metrics, self.asked.ablations, self.asked.keys).items():
            for part in work.parts(self.asked.at_once):
                found.setdefault(part, []).extend(which)
        return found

    def pieces(self, work: Work, which: Sequence[int], least: int) -> list[Sequence[int]]:
        """The units, as they are where there are `least` of them, else cut so that there are, as far as documents go."""
        units = self.units(work, which)
        cuts = -(-least // max(1, len(units)))
        parts = [unit[len(unit) * i // cuts : len(unit) * (i + 1) // cuts] for unit in units for i in range(cuts)]
        return [part for part in parts if len(part)]

    def keep(self, run: Run, work: Work, unit: Sequence[int], scores: Mapping[str, np.ndarray]) -> None:
        """A batch as records: ablations that lack the same are one, whole or not at all."""
        for ablations, new in work.split(scores):
            run.add(ablations, [key for d in unit for key in self.asked.keys[d]], new)


Backend = Callable[[Run, Scoring, Mapping[Work, list[int]]], None]  # scores what documents lack into a run


def local(run: Run, scoring: Scoring, todo: Mapping[Work, list[int]]) -> None:
    """In this process."""
    with run.writing(scoring.about):
        for work, which in todo.items():
            for unit, scores in scoring.answer(work, which):
                scoring.keep(run, work, unit, scores)


def map_documents(run: Run, scoring: Scoring, backend: Backend = local) -> Records:
    """Has what `run` does not hold yet of what is asked scored by the backend, and returns all that it holds."""
    asked = scoring.asked
    run.ask(asked.ablations, asked.documents)
    held = run.records()
    todo = scoring.todo(held)
    scoring.done(len(asked.documents) - len({d for which in todo.values() for d in which}))
    if not todo:
        return held
    backend(run, scoring, todo)
    return run.records()


def on_windows(
    asked: Question,
    about: Mapping[str, object],
    windows: Sequence[Window],
    model: BlockModel,
    size: Callable[[Work], int],
    score: Callable[[Batch, Work], Mapping[str, np.ndarray]],
    done: Callable[[int], None] = lambda n: None,
) -> Scoring:
    """Of a study of text: `size(work)` windows at once, scored by `score`."""

    def units(work: Work, which: Sequence[int]) -> list[Sequence[int]]:
        each = size(work)
        return [which[first : first + each] for first in range(0, len(which), each)]

    def answer(work: Work, which: Sequence[int]) -> Iterator[tuple[Sequence[int], Mapping[str, np.ndarray]]]:
        for part in units(work, which):
            batch = encode([windows[d] for d in part], tokenizer_of(model))
            yield part, {**score(batch, work), "tokens": batch.tokens, "bytes": batch.bytes}

    return Scoring(asked, about, units, answer, done)
