"""A run: what was scored of one model on one text, as a folder with a manifest and records, which a killed process can go on with."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from adapters.ablation import Ablation
from adapters.errors import StrataError
from analysis.data.hashes import content_hash
from analysis.display.format import file_name
from analysis.runs import files
from analysis.runs.folder import Folder, Manifest, Table
from analysis.runs.records import Record, Records, checked
from analysis.runs.summary import merged

SUMMARY = "summary.csv"


class Run(Folder):
    """Scores of one model on one text, or on one task: numbers by metric, ablation and document, whoever asked for them.

    `identity` is what makes records comparable (model, text, dtype, what is left behind ...); a folder with records belongs to
    one. Which ablations and documents are scored is not part of it, so that studies share what they have in common and a larger
    budget goes on from a smaller one. A record holds some of `metrics`, and all of `records.COUNTS` among them; any other is
    damaged (None: any metrics will do). Writers of different names may write at once.
    """

    def __init__(
        self, folder: Path, identity: Mapping[str, object], metrics: Collection[str] | None = (), writer: str | None = None
    ) -> None:
        super().__init__(folder, identity, of="model or text", made="scores/*.jsonl")
        self.metrics = metrics
        self._records = folder / "scores" / f"{file_name(writer or platform.node() or 'host')}.jsonl"

    def written_by(self, writer: str) -> Run:
        """The same, with a file and a lock of this name."""
        return Run(self.folder, self.identity, self.metrics, writer)

    def _writers_lock(self) -> Path:
        return self._records.with_suffix(".lock")

    def add(self, ablations: Sequence[Ablation], documents: Sequence[str], scores: Mapping[str, np.ndarray]) -> None:
        """Appends one record, whole or not at all: `scores` by metric, (ablations, documents), of `records.COUNTS` (documents,).

        Raises StrataError for what would not be read again: numbers that are not finite, documents without a token.
        """
        record = {
            "key": self.key,
            "ablations": [ablation.to_json() for ablation in ablations],
            "documents": list(documents),
            "scores": {name: np.asarray(values).tolist() for name, values in scores.items()},
        }
        try:
            checked(record, self.key, self.metrics)
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

    def records(self) -> Records:
        """All that is held. Damaged lines are passed over and counted."""
        found: list[Record] = []
        for path in sorted(self.folder.glob("scores/*.jsonl")):
            damaged = 0
            for line in _lines(path):
                try:
                    found.append(checked(files.parse(line), self.key, self.metrics))
                except ValueError:
                    damaged += 1
            if damaged:
                files.say(f"{path}: {damaged} damaged line{'s' * (damaged > 1)} skipped, as a killed process may leave")
        return Records(found)

    def planned(self, ablations: Sequence[Ablation]) -> int:
        """On how many documents these ablations were last asked for; 0 when they were not."""
        manifest = self.manifest()
        return len(set(manifest.asked.get(_question(ablations), ()))) if manifest else 0

    def ask(self, ablations: Sequence[Ablation], documents: Sequence[str]) -> None:
        """Notes what is asked for, so that it is asked for again where nothing else is said. Fewer documents than before change nothing."""
        question, new = _question(ablations), set(documents)

        def known(manifest: Manifest | None) -> bool:
            return manifest is not None and new <= set(manifest.asked.get(question, ()))

        if known(self.manifest()):  # a finished run is only read
            return
        with self.changing() as before:
            if not known(before):
                self._write(before, {"asked": (before.asked if before else {}) | {question: list(documents)}})

    def write_table(self, text: str, documents: Sequence[str]) -> None:
        """Adds a table of `documents` to summary.csv, and notes in the manifest which these are.

        Of rows about the same that of more documents stays. When none of a table is taken that is said; so it is when one of
        other documents has to go.
        """
        if self._changed(self.manifest(), text, documents) is None:
            return
        with self.changing() as manifest:
            if (changed := self._changed(manifest, text, documents)) is not None:
                whole, covered = changed
                self._write(manifest, {"table": Table(documents=covered, sha256=_sha256(whole.encode())).model_dump()})
                self.write_text(SUMMARY, whole)

    def _changed(self, manifest: Manifest | None, text: str, documents: Sequence[str]) -> tuple[str, list[str]] | None:
        """The new summary.csv and its documents; None where it stays as it is."""
        path, asked, before = self.folder / SUMMARY, set(documents), manifest.table if manifest else None
        data = path.read_bytes() if before and path.is_file() else b""
        there, known = before is not None and _sha256(data) == before.sha256, set(before.documents if before else ())
        nested = asked <= known or known <= asked
        if not nested:
            gone = len(known - asked)
            files.say(f"{path} covered {len(known)} documents, {gone} of them not requested now; it now covers {len(asked)}")
        whole = merged(data.decode(), text) if there and nested else text
        if not there or whole.encode() != data:
            return whole, list(before.documents if before and there and asked < known else documents)
        if asked < known and not set(text.splitlines()[1:]) & set(whole.splitlines()):
            files.say(f"{path} stays as it is: it covers {len(known)} documents, and the {len(asked)} that were requested are among them")
        return None


def _question(ablations: Sequence[Ablation]) -> str:
    return content_hash([ablation.to_json() for ablation in ablations])


def _lines(path: Path) -> list[bytes]:
    """That are not empty. Raises StrataError when it is not a file that can be read."""
    try:
        if not path.is_file():
            raise StrataError(f"{path} is not a file: remove it")
        return [line for line in path.read_bytes().split(b"\n") if line.strip()]
    except OSError as error:
        raise StrataError(f"{path} cannot be read: {error.strerror}; make it readable, or remove it to score its documents again") from None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
