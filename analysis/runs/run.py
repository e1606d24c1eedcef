"""A run: one study of one model as a folder with a manifest and its records, which a killed process can go on with."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from adapters.errors import StrataError
from analysis.runs import files
from analysis.runs.folder import Folder, Table

COUNTS = ("tokens", "bytes", "real")  # metrics that are positive whole numbers
FLAGS = ("greedy",)  # metrics that are true or false

Scores = dict[str, np.ndarray]  # by metric: (rows, documents), or (documents,)


class Run(Folder):
    """Records of a plan: for each document, one number for each metric and ablation.

    `identity` is what makes records comparable (model, ablations, corpus, window, dtype ...); a folder with records
    belongs to one. `rows` has how many numbers a document has of each metric, None for one alone; a record of anything else
    is damaged.
    Which documents are scored is not part of the identity, so that a larger budget goes on from a smaller one.
    """

    def __init__(self, folder: Path, identity: Mapping[str, object], rows: Mapping[str, int | None] | None = None) -> None:
        super().__init__(folder, identity, made="scores/*.jsonl")
        self.rows = dict(rows or {})
        self._records = folder / "scores" / f"{platform.node() or 'host'}.jsonl"

    def add(self, documents: Sequence[str], scores: Mapping[str, np.ndarray]) -> None:
        """Appends one record, whole or not at all: `scores` by metric, (rows, documents) or (documents,).

        Raises StrataError for what would not be read again: numbers that are not finite, documents without a token.
        """
        record = {"key": self.key, "documents": list(documents), "scores": {name: np.asarray(s).tolist() for name, s in scores.items()}}
        try:
            self._read(record)
        except ValueError as error:
            raise StrataError(f"scores of {documents[0]} and {len(documents) - 1} other documents cannot be kept: {error}") from None
        line = ("\n" + json.dumps(record)).encode()  # the newline in front ends a line that a kill has torn
        self._records.parent.mkdir(exist_ok=True)
        fd = os.open(self._records, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(fd).st_size
            try:
                while line:
                    line = line[os.write(fd, line) :]
                os.fsync(fd)
            except OSError:
                os.ftruncate(fd, size)
                raise
        finally:
            os.close(fd)

    @property
    def planned(self) -> int:
        """How many documents were last asked for; 0 in a folder without a run."""
        manifest = self.manifest()
        return len(set(manifest.windows)) if manifest else 0

    def scores(self) -> dict[str, Scores]:
        """By document, then by metric: (rows,) or a scalar. Damaged lines are passed over and counted; of doubles, the first counts."""
        found: dict[str, Scores] = {}
        for path in sorted(self.folder.glob("scores/*.jsonl")):
            damaged = 0
            for line in _lines(path):
                try:
                    documents, scores = self._read(files.parse(line))
                except ValueError:
                    damaged += 1
                    continue
                for i, document in enumerate(documents):
                    found.setdefault(document, {name: values[..., i] for name, values in scores.items()})
            if damaged:
                files.say(f"{path}: {damaged} damaged line{'s' * (damaged > 1)} passed over, as a process that is killed may leave one")
        return found

    def _read(self, record: object) -> tuple[list[str], Scores]:
        """Documents and scores of a record. Raises ValueError when it is not one of this run, and whole."""
        if not isinstance(record, dict) or record.keys() != {"key", "documents", "scores"} or record["key"] != self.key:
            raise ValueError("it is no record of this run")
        documents, scores = record["documents"], record["scores"]
        if not isinstance(documents, list) or not all(isinstance(document, str) for document in documents):
            raise ValueError("its documents are no list of names")
        if not isinstance(scores, dict) or scores.keys() != self.rows.keys():
            raise ValueError(f"its metrics are not {', '.join(self.rows)}")
        return documents, {name: _array(name, scores[name], rows, len(documents)) for name, rows in self.rows.items()}

    def write_table(self, text: str, documents: Sequence[str]) -> None:
        """Writes summary.csv, the table of `documents`, and in the manifest which these are.

        A table of the same documents and more stays where it is, and that is said; so it is when another one has to go.
        """
        path, table = self.folder / "summary.csv", Table(documents=list(documents), sha256=_sha256(text.encode()))
        manifest = self.manifest()
        before = manifest.table if manifest else None
        asked, known = set(documents), set(before.documents) if before else set()
        there = before is not None and path.is_file() and _sha256(path.read_bytes()) == before.sha256
        if there and asked < known:
            files.say(f"{path} stays as it is: it is of {len(known)} documents, and the {len(asked)} that were asked for are among them")
        elif not there or table != before:
            if not asked >= known:
                files.say(
                    f"{path} was of {len(known)} documents, {len(known - asked)} of them not asked for now; it is now of {len(asked)}"
                )
            with self._locked():
                self._note({"table": table.model_dump()})
                self.write_text(path.name, text)


def _lines(path: Path) -> list[bytes]:
    """That are not empty. Raises StrataError when it is no file that can be read."""
    try:
        if not path.is_file():
            raise StrataError(f"{path} is no file: remove it")
        return [line for line in path.read_bytes().split(b"\n") if line.strip()]
    except OSError as error:
        raise StrataError(f"{path} cannot be read: {error.strerror}; make it readable, or remove it to score its documents again") from None


def _array(name: str, values: object, rows: int | None, documents: int) -> np.ndarray:
    found = np.array(values)
    shape = (documents,) if rows is None else (rows, documents)
    if found.shape != shape or found.dtype.kind not in ("b" if name in FLAGS else "i" if name in COUNTS else "if"):
        raise ValueError(f"{name} is not {' x '.join(map(str, shape))} numbers")
    if not np.isfinite(found).all() or (name in COUNTS and not (found > 0).all()):
        raise ValueError(f"{name} is not {'positive' if name in COUNTS else 'finite'} everywhere")
    return found


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
