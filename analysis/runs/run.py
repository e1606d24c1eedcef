"""A run: one study of one model as a folder with a manifest and its records, which a killed process can go on with."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from adapters.errors import StrataError, unwritable
from analysis.data.hashes import content_hash

SCHEMA = 1
LEFT_BEHIND = (".lock", "scores")  # in a folder whose first writer was killed before it wrote the manifest
VERSIONS = ("llm-strata", "torch", "transformers", "numpy", "scipy")


class Run:
    """Records of a plan: for each document, one number for each metric and ablation.

    `identity` is what makes records comparable (model, ablations, corpus, window, dtype ...); a folder with records
    belongs to one.
    Which documents are scored is not part of it, so that a larger budget goes on from a smaller one.
    """

    def __init__(self, folder: Path, identity: Mapping[str, object]) -> None:
        self.folder, self.identity, self.key = folder, dict(identity), content_hash(identity)
        self._records = folder / "scores" / f"{platform.node() or 'host'}.jsonl"
        self._check()

    def _check(self) -> None:
        path = self.folder / "manifest.json"
        with self._disk():
            manifest = path.read_text(errors="replace") if path.exists() else None
            entries = [p.name for p in self.folder.iterdir()] if self.folder.exists() else []
        if manifest is not None:
            found = _manifest(manifest)
            unused = {"key", "identity"} <= found.keys() and not any(self.folder.glob("scores/*.jsonl"))
            if found.get("key") != self.key and not unused:
                theirs = found.get("identity", {})
                differing = sorted(k for k, v in self.identity.items() if k not in theirs or content_hash(theirs[k]) != content_hash(v))
                raise StrataError(
                    f"{self.folder} holds a run of another plan (it differs in {', '.join(differing) or 'schema'}): give another --out"
                )
        elif not all(name in LEFT_BEHIND or name.startswith(".manifest.json.") for name in entries):
            raise StrataError(f"{self.folder} is not empty and holds no run: give another --out")

    @contextmanager
    def writing(self, about: Mapping[str, object]) -> Iterator[None]:
        """Holds the folder for one writer and notes in the manifest what is `about` to be scored."""
        with self._disk():
            self._records.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock", timeout=0):
                self._check()  # again, now that nobody else can write
                versions = {name: _version(name) for name in VERSIONS} | {"python": platform.python_version()}
                self.write_json(
                    "manifest.json", {"schema": SCHEMA, "key": self.key, "identity": self.identity, **about, "versions": versions}
                )
                yield

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except Timeout:
            raise StrataError(f"another process is writing to {self.folder}: wait for it, or give another --out") from None
        except OSError as error:
            raise unwritable(self.folder, error) from error

    def add(self, documents: Sequence[str], scores: Mapping[str, np.ndarray]) -> None:
        """Appends one record, whole or not at all: `scores` by metric, (ablations, documents) or (documents,)."""
        record = {"key": self.key, "documents": list(documents), "scores": {name: np.asarray(s).tolist() for name, s in scores.items()}}
        line = ("\n" + json.dumps(record)).encode()  # the newline in front ends a line that a kill has torn
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
        path = self.folder / "manifest.json"
        return len(_manifest(path.read_text(errors="replace")).get("windows", ())) if path.exists() else 0

    def scores(self) -> dict[str, dict[str, np.ndarray]]:
        """By document, then by metric: (ablations,) or a scalar. Torn lines are passed over; of doubles, the first counts."""
        found: dict[str, dict[str, np.ndarray]] = {}
        for path in sorted(self.folder.glob("scores/*.jsonl")):
            for line in path.read_text().splitlines():
                try:
                    record = json.loads(line)
                except ValueError:
                    continue
                if record.get("key") != self.key:
                    continue
                scores = {name: np.array(values) for name, values in record["scores"].items()}
                for i, document in enumerate(record["documents"]):
                    found.setdefault(document, {name: values[..., i] for name, values in scores.items()})
        return found

    def write_json(self, name: str, data: object) -> None:
        self.write_text(name, json.dumps(data, indent=1) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Atomically: readers see the old file or the new one."""
        temporary = self.folder / f".{name}.{os.getpid()}"
        with self._disk():
            try:
                temporary.write_text(text)
                temporary.replace(self.folder / name)
            finally:
                temporary.unlink(missing_ok=True)


def _manifest(text: str) -> dict:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except Exception:  # not installed: a bare machine runs the sweep alone
        return None
