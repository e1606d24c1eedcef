"""Ray: workers that load the model once and take units from the driver, which alone writes; workers and nodes may come and go.

A unit is scored at least once. Workers whose driver was killed go on for seconds, and what they find is dropped.
"""

from __future__ import annotations

import importlib
import logging
import os
import platform
import signal
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch

from adapters.errors import StrataError, missing_extra, one_line
from analysis.display.format import count
from analysis.runs.folder import versions
from analysis.runs.jobs import Job
from analysis.runs.records import Work
from analysis.runs.run import Run
from analysis.runs.scoring import Scoring

CORES = 4  # of a worker where there are no cards
PATIENCE = 600.0  # seconds until the first worker has its model, and until one of those that were lost is back
ANSWER = 5.0  # seconds in which the head of a cluster answers
ATTEMPTS = 10  # workers that may be lost with the same unit
OFTEN = 0.5  # seconds between looks at workers that are away

Task = tuple[Work, Sequence[int]]  # documents, and what they lack


class Call(NamedTuple):
    """Of a worker's method."""

    worker: int
    task: Task | None  # None: is it there, with its model?
    since: float


class Worker:
    """What runs on other machines."""

    def __init__(self, job: Job, threads: int) -> None:
        self.job, self.threads = job, threads

    @cached_property
    def scoring(self) -> Scoring:
        if not torch.cuda.is_available():
            torch.set_num_threads(self.threads)  # Ray asks for one of a worker of one core, and sums depend on how many there are
        self.study = self.job.study()
        return self.study.scoring()

    def describe(self, driver: Mapping[str, str | None]) -> dict[str, Any]:
        """With the model loaded: what scores must agree in, and where they are made; without it where versions are not the driver's."""
        about = {"versions": versions(), "host": platform.node()}
        if about["versions"] != driver:  # files may not even be read alike
            return about
        _ = self.scoring
        return about | {"identity": self.study.identity}

    def units(self, work: Work, which: Sequence[int], least: int) -> list[list[int]]:
        return [list(unit) for unit in self.scoring.pieces(work, which, least)]

    def score(self, work: Work, unit: Sequence[int]) -> list[tuple[Sequence[int], Mapping[str, np.ndarray]]]:
        """Documents of batches, and their scores."""
        return list(self.scoring.answer(work, unit))


@dataclass
class Workers:
    """The backend of a driver: hands out units, gets scores, and writes them."""

    ray: Any
    actors: Sequence[Any]
    told: Callable[[str], None]  # how fast workers are
    first: dict[str, Any] = field(default_factory=dict)  # what the first one that was there says of itself
    calls: dict[Any, Call] = field(default_factory=dict)  # by reference
    idle: list[int] = field(default_factory=list)  # workers that have their model and wait
    away: dict[int, float] = field(default_factory=dict)  # workers that were lost, and when to ask them again
    documents: dict[int, int] = field(default_factory=dict)  # scored, by worker
    seconds: dict[int, float] = field(default_factory=dict)
    heard: float = field(default_factory=time.monotonic)  # when one has answered

    def __call__(self, run: Run, scoring: Scoring, todo: Mapping[Work, list[int]]) -> None:
        with run.writing(scoring.about):
            waiting, lost = deque(self._units(todo)), Counter[tuple[int, ...]]()
            while waiting or any(call.task for call in self.calls.values()):
                while waiting and self.idle:
                    task = waiting.popleft()
                    self._call(self.idle.pop(0), "score", *task, task=task)
                for call, found in self._answers():
                    if call.task is None:
                        continue
                    if found is None:
                        waiting.appendleft(call.task)
                        lost[tuple(call.task[1])] += 1
                        if max(lost.values()) == ATTEMPTS:
                            raise StrataError(
                                f"{ATTEMPTS} workers were lost with the same {len(call.task[1])} documents: give workers more memory"
                            )
                        continue
                    for unit, scores in found:
                        scoring.keep(run, call.task[0], unit, scores)
                    scoring.done(len(call.task[1]))
                    self._count(call.worker, len(call.task[1]), time.monotonic() - call.since)

    def begin(self) -> dict[str, Any]:
        """Waits until a worker has its model: what it says of itself."""
        for worker in range(len(self.actors)):
            self._call(worker, "describe", versions())
        while not self.idle:
            self._answers()
        return self.first

    def _units(self, todo: Mapping[Work, list[int]]) -> list[Task]:
        """As a worker has memory for."""
        found: list[Task] = []
        for work, which in todo.items():
            units = None
            while units is None:
                while not self.idle:
                    self._answers()
                self._call(self.idle.pop(0), "units", work, which, len(self.actors), task=(work, []))
                while any(call.task for call in self.calls.values()):
                    units = next((answer for call, answer in self._answers() if call.task), units)
            found += [(work, unit) for unit in units]
        return found

    def _call(self, worker: int, method: str, *arguments: Any, task: Task | None = None) -> None:
        ref = getattr(self.actors[worker], method).remote(*arguments)
        self.calls[ref] = Call(worker, task, time.monotonic())

    def _answers(self) -> list[tuple[Call, Any]]:
        """Of the calls that are done, after a moment; None for one whose worker was lost. Raises StrataError when all are for too long."""
        for worker in [worker for worker, when in self.away.items() if when < time.monotonic()]:
            del self.away[worker]
            self._call(worker, "describe", versions())
        done: list[Any] = []
        if self.calls:
            done, _ = self.ray.wait(list(self.calls), timeout=OFTEN)
        else:
            time.sleep(OFTEN)
        if (
            all(time.monotonic() - call.since > PATIENCE and call.task is None for call in self.calls.values())
            and self.calls
            and not self.idle
        ):
            raise StrataError(f"no worker was there for {PATIENCE:.0f} s: look at `ray status`; rerun the command to go on")
        return [(self.calls[ref], self._answer(ref, self.calls.pop(ref))) for ref in done]

    def _answer(self, ref: Any, call: Call) -> Any:
        try:
            found = self.ray.get(ref)
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, StrataError):
                where = self.first.get("host", "a machine of the cluster")
                raise StrataError(
                    f"a worker cannot score: {error.cause}; what it reads must lie on a disk of all machines ({where})"
                ) from None
            raise
        except self.ray.exceptions.RayError as error:  # it died, or its node did
            if isinstance(error, self.ray.exceptions.ActorDiedError) and not self.first:
                raise StrataError(f"a worker does not start: {one_line(error)[-200:]}; is llm-strata installed on all machines?") from None
            self.away[call.worker] = time.monotonic() + OFTEN
            return None
        self.idle.append(call.worker)
        self.heard = time.monotonic()
        if call.task is None:
            self._agree(found)
        return found

    def _agree(self, about: dict[str, Any]) -> None:
        """Raises StrataError when a worker differs from the driver, or from the first one."""
        self.first = self.first or about
        for name, ours in versions().items():
            if (theirs := about["versions"].get(name)) != ours:
                raise StrataError(
                    f"{about['host']} has {name} {theirs}, and this machine has {ours}: use the same environment on all machines"
                )
        identity = self.first["identity"]
        if differing := [name for name in identity if about["identity"].get(name) != identity[name]]:
            raise StrataError(
                f"workers on {self.first['host']} and {about['host']} differ in {', '.join(differing)}: give --device and --dtype, and "
                "put the model and the text on a disk that all machines share"
            )

    def _count(self, worker: int, documents: int, seconds: float) -> None:
        self.documents[worker] = self.documents.get(worker, 0) + documents
        self.seconds[worker] = self.seconds.get(worker, 0.0) + seconds
        self.told(self.rates)

    @property
    def rates(self) -> str:
        """Documents a minute of each worker."""
        each = [f"{60 * self.documents[w] / self.seconds[w]:.3g}" if w in self.seconds else "-" for w in range(len(self.actors))]
        return f"documents a minute, by worker: {', '.join(each[:16])}{' ...' if len(each) > 16 else ''}"


@contextmanager
def workers(job: Job, address: str | None, n: int | None, told: Callable[[str], None] = lambda rates: None) -> Iterator[Workers]:
    """`n` workers, one for each card or CORES cores where nothing is said; of a cluster at `address`, or of this machine (None).

    Raises StrataError where Ray is not installed or not there, and where the cluster is too small.
    """
    ray = _connected(address)
    try:
        n, needs = _sizes(ray.cluster_resources(), job.device, n)
        remote = ray.remote(Worker).options(max_restarts=-1, **needs)
        threads = max(1, int(needs["num_cpus"]))
        actors = [remote.remote(job, threads) for _ in range(n)]
        found = Workers(ray, actors, told)
        found.begin()
        yield found
    finally:
        ray.shutdown()


def _sizes(there: Mapping[str, float], device: str, n: int | None) -> tuple[int, dict[str, float]]:
    """How many workers, and what each asks of Ray."""
    cards, cores = int(there.get("GPU", 0)), there.get("CPU", 0.0)
    if device not in ("auto", "cpu", "cuda"):
        raise StrataError(f"`device` {device} is one of one machine, and Ray chooses among all: give cpu, cuda or auto")
    if cards and device != "cpu":
        n = cards if n is None else n
        if n > cards:
            raise StrataError(f"{n} workers are asked for, and there are {count(cards, 'card')}: give fewer")
        return n, {"num_gpus": 1, "num_cpus": min(1.0, cores / n)}
    if device == "cuda":
        raise StrataError("device cuda was requested, but Ray sees no card: use `device` cpu, or start its nodes with --num-gpus")
    n = max(1, int(cores // CORES)) if n is None else n
    if n > 100 * cores:
        raise StrataError(f"{n} workers are asked for, and there are {cores:g} cores: give fewer")
    return n, {"num_cpus": min(CORES, int(100 * cores / n) / 100)}  # Ray knows hundredths; what does not fit would wait without a word


def _connected(address: str | None) -> Any:
    """Ray's module, with a connection that `ray.shutdown` ends. It tells nobody, and has no dashboard."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        ray = importlib.import_module("ray")
    except ModuleNotFoundError:
        raise missing_extra("ray") from None
    if address is not None:
        _reach(address)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    local = {"include_dashboard": False, "_node_ip_address": "127.0.0.1", "num_cpus": os.cpu_count()}
    with _own_signals():
        try:
            ray.init(**quiet, **(local if address is None else {"address": address}))
        except Exception as error:  # of many types
            what = "Ray does not start" if address is None else f"the Ray cluster at {address} cannot be used"
            raise StrataError(f"{what}: {one_line(error)}") from error
    return ray


def _reach(address: str) -> None:
    """Raises StrataError at once where Ray would try for minutes."""
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal() and int(port) < 1 << 16) or "/" in address:
        raise StrataError(f"--ray {address!r} is no address of a cluster: give HOST:PORT of its head, 6379 where nothing else was said")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER).close()
    except OSError as error:
        raise StrataError(
            f"no Ray cluster answers at {address} ({error}): start one with `ray start --head`, or give its address"
        ) from None


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray puts handlers of its own in the place of ours."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
