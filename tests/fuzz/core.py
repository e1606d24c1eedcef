"""A case of a fuzzed kind of input: one mutant, read in a process of its own, within limits of time and memory, and judged.

The process is forked from one that has imported everything, so that a case takes milliseconds; what a mutant does to it, be
it a crash of the interpreter, ends with it.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import select
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from adapters.errors import StrataError
from tests.fuzz.verdicts import Outcome, Wrong, is_one_line


class Limits(NamedTuple):
    cpu: int = 60  # seconds
    wall: float = 180.0  # seconds: a process that waits for something takes none of the CPU
    memory: int = 4 << 30  # bytes beside what was there


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    `make` writes inputs that are right into a folder, each in a folder of its own, and returns by name what judging one needs.
    `mutate` changes one in place and says how. `judge` reads a folder: it returns a verdict and why, or raises StrataError or Wrong.
    """

    make: Callable[[Path], Mapping[str, Any]]
    mutate: Callable[[Random, Path, Any], str]
    judge: Callable[[Path, Any], tuple[str, str]]


LIMITS = Limits()


class Fuzzer:
    """Cases of one kind by number. Raises ValueError at once where an input that is not mutated is not judged right."""

    def __init__(self, name: str, kind: Kind, root: Path, limits: Limits = LIMITS) -> None:
        self.name, self.kind, self.root, self.limits = name, kind, root, limits
        self.bases = kind.make(root)
        for base, known in self.bases.items():
            with tempfile.TemporaryDirectory() as folder:  # reading leaves things behind
                copy = shutil.copytree(root / base, Path(folder) / base)
                verdict, said = kind.judge(copy, known)
            if verdict != "right":
                raise ValueError(f"{name}: {base} is {verdict} ({said}) before it is mutated")

    def run(self, number: int, keep: Path | None = None) -> Outcome:
        """One case; `keep` is a new folder for the mutant."""
        rng = Random(f"{self.name} {number}")
        base = rng.choice(sorted(self.bases))
        with tempfile.TemporaryDirectory() as folder:
            place = keep or Path(folder) / base
            began = time.monotonic()
            verdict, said, mutation = self._forked(rng, base, place)
            return Outcome(verdict, said, f"{base}: {mutation}", time.monotonic() - began)

    def _forked(self, rng: Random, base: str, place: Path) -> tuple[str, str, str]:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            with suppress(BaseException):
                self._limit()
                self._child(rng, base, place, writer)
            os._exit(0)
        os.close(writer)
        said, late = _received(reader, self.limits.wall)
        if late:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        mutation, *rest = said.split("\n", 1)
        by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        if late or by == signal.SIGXCPU:
            return "time", f"{self.limits}", mutation
        if by or not rest or not rest[0]:
            return "signal", signal.Signals(by).name if by else "the process ended without a word", mutation
        verdict, why = json.loads(rest[0])
        return verdict, why, mutation

    def _limit(self) -> None:
        with suppress(FileNotFoundError):  # of Linux
            taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (taken + self.limits.memory,) * 2)
        resource.setrlimit(resource.RLIMIT_CPU, (self.limits.cpu, self.limits.cpu + 5))  # at the hard one it is SIGKILL, which says nothing
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.disable()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nowhere, stream)

    def _child(self, rng: Random, base: str, place: Path, writer: int) -> None:
        """A line that says what was done, then the verdict."""
        shutil.copytree(self.root / base, place)
        _write(writer, ascii(self.kind.mutate(rng, place, self.bases[base]))[1:-1][:300] + "\n")
        try:
            verdict, said = self.kind.judge(place, self.bases[base])
        except StrataError as error:
            said = str(error)
            verdict = "refused" if is_one_line(said) else "lines"
        except Wrong as error:
            verdict, said = "wrong", str(error)
        except BaseException:
            verdict, said = "traceback", traceback.format_exc()[-3000:]
        _write(writer, json.dumps([verdict, said]))


def _write(fd: int, text: str) -> None:
    data = text.encode("utf-8", "replace")
    while data:
        data = data[os.write(fd, data) :]


def _received(reader: int, seconds: float) -> tuple[str, bool]:
    """What comes through a pipe until it is closed, and whether that takes longer."""
    parts, end = [], time.monotonic() + seconds
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while True:
            ready, _, _ = select.select([pipe], [], [], max(0.0, end - time.monotonic()))
            part = pipe.read(1 << 16) if ready else None
            if not part:
                return b"".join(parts).decode(), part is None
            parts.append(part)
