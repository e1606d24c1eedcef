"""Records: what ablations scored on documents, a line of JSON each; and all that a run holds, looked up by content."""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from adapters.ablation import Ablation
from adapters.errors import StrataError

COUNTS = ("tokens", "bytes", "real")  # metrics that are positive whole numbers, one for each document and every ablation
FLAGS = ("greedy",)  # metrics that are true or false
TEXTS = ("written",)  # what a model wrote behind a prompt: objects of TEXT_FIELDS, of which `why` says why it ends
TEXT_FIELDS, WHYS = {"tokens", "text", "why"}, ("end", "stop", "length")
FIELDS = {"key", "ablations", "documents", "scores"}

Scores = dict[str, np.ndarray]  # by metric: (ablations, documents), of COUNTS (documents,)


class Record(NamedTuple):
    ablations: list[Ablation]
    documents: list[str]
    scores: Scores


class Work(NamedTuple):
    """What documents lack: of some ablations some metrics."""

    lacks: tuple[tuple[Ablation, tuple[str, ...]], ...]

    @classmethod
    def of(cls, ablations: Sequence[Ablation], metrics: Sequence[str]) -> Work:
        """All metrics of all of them."""
        return cls(tuple((ablation, tuple(metrics)) for ablation in ablations))

    @property
    def ablations(self) -> list[Ablation]:
        return [ablation for ablation, _ in self.lacks]

    @property
    def metrics(self) -> list[str]:
        """That any of them lacks."""
        return list(dict.fromkeys(metric for _, metrics in self.lacks for metric in metrics))

    def parts(self, size: int | None) -> Iterator[Work]:
        """The same, `size` ablations at once (None: all)."""
        step = size or len(self.lacks)
        return (Work(self.lacks[first : first + step]) for first in range(0, len(self.lacks), step))

    def split(self, scores: Mapping[str, np.ndarray]) -> Iterator[tuple[list[Ablation], Scores]]:
        """Scores of `ablations` without what was known, as records hold them: ablations that lack the same, and that."""
        counts = {name: values for name, values in scores.items() if name in COUNTS}
        for lacking in dict.fromkeys(metrics for _, metrics in self.lacks):
            rows = [i for i, (_, metrics) in enumerate(self.lacks) if metrics == lacking]
            yield [self.lacks[i][0] for i in rows], {metric: scores[metric][rows] for metric in lacking} | counts


def checked(data: object, key: str, metrics: Collection[str] | None) -> Record:
    """Raises ValueError when it is no whole record of the run of this `key`, which keeps `metrics` (None: whichever)."""
    if not isinstance(data, dict) or data.keys() != FIELDS or data["key"] != key:
        raise ValueError("it is not a record of this run")
    documents, scores = data["documents"], data["scores"]
    if not isinstance(documents, list) or not all(isinstance(document, str) for document in documents):
        raise ValueError("its documents are not a list of names")
    if not isinstance(data["ablations"], list):
        raise ValueError("its ablations are no list")
    ablations = [_ablation(each) for each in data["ablations"]]
    if not isinstance(scores, dict) or (metrics is not None and not set(COUNTS) & set(metrics) < scores.keys() <= set(metrics)):
        raise ValueError(f"its metrics are not {', '.join(metrics or ())}")
    return Record(ablations, documents, {name: _array(name, each, len(ablations), len(documents)) for name, each in scores.items()})


def _ablation(data: object) -> Ablation:
    """Of its canonical JSON, and nothing else."""
    try:
        found = Ablation.from_json(data) if isinstance(data, dict) else None
    except (StrataError, TypeError, ValueError):
        found = None
    if found is None or json.dumps(found.to_json()) != json.dumps(data):
        raise ValueError("its ablations are none")
    return found


def _array(name: str, values: object, ablations: int, documents: int) -> np.ndarray:
    if name in TEXTS:
        return _texts(name, values, ablations, documents)
    found = np.array(values)
    shape = (documents,) if name in COUNTS else (ablations, documents)
    flags = name not in FLAGS and any(type(value) is bool for value in np.array(values, dtype=object).flat)  # numbers to numpy
    if flags or found.shape != shape or found.dtype.kind not in ("b" if name in FLAGS else "i" if name in COUNTS else "if"):
        raise ValueError(f"{name} is not {' x '.join(map(str, shape))} numbers")
    if not np.isfinite(found).all() or (name in COUNTS and not (found > 0).all()):
        raise ValueError(f"{name} is not {'positive' if name in COUNTS else 'finite'} everywhere")
    return found


def _texts(name: str, values: object, ablations: int, documents: int) -> np.ndarray:
    if (
        not isinstance(values, list)
        or not all(isinstance(row, list) and len(row) == documents for row in values)
        or len(values) != ablations
    ):
        raise ValueError(f"{name} is not {ablations} x {documents} texts")
    found = np.empty((ablations, documents), dtype=object)
    for (a, d), text in ((place, values[place[0]][place[1]]) for place in np.ndindex(found.shape)):
        if not isinstance(text, dict) or text.keys() != TEXT_FIELDS or not isinstance(text["text"], str) or text["why"] not in WHYS:
            raise ValueError(f"{name} holds what is no text")
        if not isinstance(text["tokens"], list) or not all(type(token) is int and token >= 0 for token in text["tokens"]):
            raise ValueError(f"{name} holds what are no tokens")
        found[a, d] = text
    return found


@dataclass(frozen=True)
class Records:
    """All records of a run; of doubles, the first counts."""

    records: Sequence[Record]

    def of(self, metric: str, ablations: Sequence[Ablation], documents: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Values (ablations, documents), of COUNTS (documents,), and which of them are known; the others are zero."""
        columns, rows = _places(documents), _places(ablations)
        shape = (len(columns),) if metric in COUNTS else (len(rows), len(columns))
        values: np.ndarray = np.zeros(shape, _type(metric))
        known = np.zeros(shape, bool)
        for record in reversed(self.records):
            if metric not in record.scores:
                continue
            index = [_common(record.documents, columns)]
            if metric not in COUNTS:
                index.insert(0, _common(record.ablations, rows))
            to, at = (np.ix_(*(pair[side] for pair in index)) for side in (0, 1))
            values[to], known[to] = record.scores[metric][at], True
        back = np.ix_(*([[rows[a] for a in ablations]] * (metric not in COUNTS)), [columns[d] for d in documents])
        return values[back], known[back]

    def scores(self, metrics: Sequence[str], ablations: Sequence[Ablation], documents: Sequence[str]) -> Scores:
        """All of them. Raises KeyError when one is not there."""
        found = {metric: self.of(metric, ablations, documents) for metric in metrics}
        if lacking := [metric for metric, (_, known) in found.items() if not known.all()]:
            raise KeyError(f"{', '.join(lacking)} of some ablations and documents")
        return {metric: values for metric, (values, _) in found.items()}

    def missing(self, metrics: Sequence[str], ablations: Sequence[Ablation], documents: Sequence[Sequence[str]]) -> dict[Work, list[int]]:
        """Indices of `documents`, each kept under one name or several, by what they lack; those that lack nothing are left out."""
        names = [name for document in documents for name in document]
        ends = np.cumsum([len(document) for document in documents], dtype=int)
        known = np.stack([self.of(metric, ablations, names)[1] for metric in metrics])  # (metrics, ablations, names)
        todo: dict[Work, list[int]] = {}
        for d, end in enumerate(ends):
            there = np.logical_and.reduce(known[..., end - len(documents[d]) : end], -1)  # (metrics, ablations)
            each = (tuple(metric for metric, has in zip(metrics, column, strict=True) if not has) for column in there.T)
            if lacks := tuple((ablation, lacking) for ablation, lacking in zip(ablations, each, strict=True) if lacking):
                todo.setdefault(Work(lacks), []).append(d)
        return todo


def _type(metric: str) -> type:
    return bool if metric in FLAGS else int if metric in COUNTS else object if metric in TEXTS else float


def _places(keys: Sequence[Hashable]) -> dict[Hashable, int]:
    return {key: i for i, key in enumerate(dict.fromkeys(keys))}


def _common(found: Sequence[Hashable], wanted: Mapping[Hashable, int]) -> tuple[list[int], list[int]]:
    """Places in `wanted` and in `found` of what is in both; of doubles in `found` the first comes last, and is the one that stays."""
    both = [(wanted[key], i) for i, key in reversed(list(enumerate(found))) if key in wanted]
    return [to for to, _ in both], [at for _, at in both]
