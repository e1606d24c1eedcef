"""Several devices of one machine: a shard for each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty
from typing import Any

import torch

from adapters import memory
from adapters.errors import StrataError
from analysis.runs.jobs import Job
from analysis.runs.scoring import map_documents
from analysis.runs.shards import OnShard, Shard

OFTEN = 0.5  # seconds between what a process tells of its progress


def on_devices(job: Job, devices: Sequence[str], folder: Path, command: Sequence[str], progress: Callable[[int], None]) -> None:
    """Scores what the folder lacks. Raises StrataError when a process did not finish; the others do before."""
    context = multiprocessing.get_context("spawn")
    told: Queue[int | str] = context.Queue()
    threads = max(1, torch.get_num_threads() // len(devices))
    processes = [
        context.Process(
            target=_score, args=(replace(job, device=device), Shard(i, len(devices)), folder, command, threads, told), daemon=True
        )
        for i, device in enumerate(devices)
    ]
    errors: list[str] = []
    try:
        for process in processes:
            process.start()
        while any(process.is_alive() for process in processes):
            _listen(told, progress, errors)
        _listen(told, progress, errors)
    finally:
        for process in processes:
            process.terminate()
    errors += [why for process, device in zip(processes, devices, strict=True) if (why := _killed(process, device))]
    if errors:
        raise StrataError(errors[0])


def _listen(told: Queue[int | str], progress: Callable[[int], None], errors: list[str]) -> None:
    try:
        while True:
            said = told.get(timeout=OFTEN)
            if isinstance(said, str):
                errors.append(said)
            else:
                progress(said)
    except Empty:
        pass


def _killed(process: BaseProcess, device: str) -> str:
    code = process.exitcode or 0
    if code in (0, 2):
        return ""
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return f"the process on {device} ended {how} before it was done: rerun the command to go on"


def _score(job: Job, shard: Shard, folder: Path, command: Sequence[str], threads: int, told: Queue[Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    parent, last, steps = os.getppid(), time.monotonic(), 0

    def advance(n: int) -> None:
        nonlocal last, steps
        if os.getppid() != parent:
            os._exit(1)  # nobody would make the table
        steps += n
        if time.monotonic() - last > OFTEN:
            told.put(steps)
            last, steps = time.monotonic(), 0

    try:
        if job.device == "cpu":
            torch.set_num_threads(threads)
            memory.SHARED["by"] = shard.of
        study = job.study()
        map_documents(study.open(folder), study.scoring(advance), OnShard(shard, command))
        told.put(steps)
    except StrataError as error:
        told.put(f"the process on {job.device}: {error}")
        raise SystemExit(2) from None
