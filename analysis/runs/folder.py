"""An output folder that belongs to one identity, of which its manifest tells, and to one writer of a name at a time."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from filelock import UnixFileLock as NativeLock
from pydantic import Field

from adapters.errors import StrataError, unwritable
from analysis.data.hashes import content_hash
from analysis.runs import files
from analysis.runs.files import Strict

SCHEMA = 2
MOMENT = 30.0  # seconds that another process may take to change a manifest
LEFT_BEHIND = (".lock", ".writer.lock", ".shared", "scores")  # in a folder whose first writer was killed before it wrote the manifest
VERSIONS = ("llm-strata", "torch", "transformers", "numpy", "scipy")
FIX = "give another `out`"


class Table(Strict):
    """What summary.csv is of."""

    documents: list[str]
    sha256: str  # of the file


class Manifest(Strict, extra="allow"):
    """`key` is the hash of `identity`; beside these stands what the folder's last writer noted."""

    schema_version: int = Field(alias="schema")
    key: str
    identity: dict[str, Any]
    asked: dict[str, list[str]] = Field(default={})  # documents that were last asked for, by the hash of the ablations
    table: Table | None = None
    doubt: str = ""  # what speaks against the records


class Folder:
    """`noun` and `of` name it ("run", "plan"); a folder that holds none of what it has `made` (a pattern) may be taken over."""

    def __init__(self, folder: Path, identity: Mapping[str, object], noun: str = "run", of: str = "plan", made: str = "*/*") -> None:
        self.folder, self.identity, self.key = folder, dict(identity), content_hash(identity)
        self.noun, self.of, self.made = noun, of, made
        self.manifest()

    def manifest(self) -> Manifest | None:
        """None when nothing is there yet. Raises StrataError when the folder is somebody else's, or its manifest is damaged."""
        path = self.folder / "manifest.json"
        with self._disk():
            entries = [p.name for p in self.folder.iterdir()] if self.folder.exists() else []
            if not path.exists():  # asked last: another process may have begun the run meanwhile
                if not all(name in LEFT_BEHIND or name.startswith(".manifest.json.") for name in entries):
                    raise StrataError(f"{self.folder} is not empty and does not hold a {self.noun}: {FIX}")
                return None
        found = files.read_json(path, Manifest, FIX)
        if found.schema_version != SCHEMA:
            raise StrataError(f"{path} is of schema {found.schema_version}, this version of Strata reads {SCHEMA}: {FIX}")
        if content_hash(found.identity) != found.key:
            raise StrataError(f"{path} cannot be used: its key is not that of its identity; {FIX}")
        if found.key == self.key:
            return found
        if not any(self.folder.glob(self.made)):
            return None
        theirs = found.identity
        keys = self.identity.keys() | theirs.keys()
        differing = sorted(k if k.isprintable() else ascii(k) for k in keys if _hash(self.identity, k) != _hash(theirs, k))
        raise StrataError(
            f"{self.folder} holds a {self.noun} of another {self.of} (it differs in {', '.join(differing)}): "
            f"{FIX}, for example `out` {self.folder}-{self.key[:8]}"
        )

    @contextmanager
    def writing(self, about: Mapping[str, object]) -> Iterator[None]:
        """Holds the folder for one writer and notes in the manifest what it is `about` to do, and with which versions."""
        with self._locked(self._writers_lock()):
            self.note({**about, "versions": versions() | {"python": platform.python_version()}})
            yield

    def keep(self, doubt: str) -> None:
        """Notes in the manifest what speaks against the records, in place of what did before."""
        before = self.manifest()
        if before and before.doubt != doubt:
            self.note({"doubt": doubt})

    def _writers_lock(self) -> Path:
        """A file that one writer holds as long as it writes."""
        return self.folder / ".writer.lock"

    @contextmanager
    def _locked(self, lock: Path, seconds: float = 0) -> Iterator[None]:
        with self._disk():
            lock.parent.mkdir(parents=True, exist_ok=True)
            try:
                with FileLock(lock, timeout=seconds) as held:
                    if not seconds and isinstance(held, NativeLock):  # on a disk without such locks its owner stands there already
                        lock.write_text(f"process {os.getpid()} on {platform.node()}\n")
                    yield
            except Timeout:
                raise StrataError(_held(self.folder, lock)) from None

    @contextmanager
    def changing(self) -> Iterator[Manifest | None]:
        """The manifest as it is, for a moment in which nobody else changes it."""
        with self._locked(self.folder / ".lock", seconds=MOMENT):
            yield self.manifest()

    def note(self, about: Mapping[str, object]) -> None:
        """Adds to the manifest."""
        with self.changing() as before:
            self._write(before, about)

    def _write(self, before: Manifest | None, about: Mapping[str, object]) -> None:
        noted = before.model_dump(by_alias=True, exclude_unset=True) if before else {}
        self.write_json("manifest.json", {"schema": SCHEMA, "key": self.key, "identity": self.identity} | noted | dict(about))

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unwritable(self.folder, error) from error

    def write_json(self, name: str, data: object) -> None:
        self.write_text(name, files.to_json(data))

    def write_text(self, name: str, text: str) -> None:
        with self._disk():
            files.write_text(self.folder / name, text)


def _held(folder: Path, lock: Path) -> str:
    """Locks of the system end with their process, and those of a disk on the network when it notices that a machine is gone."""
    try:
        owner = lock.read_text(errors="replace").split("\n")[0][:100] or "it"
    except OSError:
        owner = "it"
    return (
        f"another process is writing to {folder} ({owner} holds {lock.name}): wait for it, or {FIX}; if its machine is gone, remove {lock}"
    )


def _hash(identity: Mapping[str, object], name: str) -> str | None:
    return content_hash(identity[name]) if name in identity else None


def versions() -> dict[str, str | None]:
    """Of what computes scores."""
    return {name: _version(name) for name in VERSIONS}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except Exception:  # not installed: a bare machine runs the sweep alone
        return None
