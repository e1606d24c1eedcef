"""Times in one process: contenders take turns, the best of several rounds counts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

ROUNDS = 3


def best(contenders: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Seconds of each, the best of `rounds`; they take turns, so that a busy minute hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    return {name: min(found) for name, found in times.items()}


def load_average() -> str:
    return " ".join(f"{x:.2f}" for x in os.getloadavg())


def resident() -> int:
    """Bytes of memory that this process holds now (Linux)."""
    return _status("VmRSS")


def peak_of(run: Callable[[], object]) -> int:
    """The most bytes of memory that this process held while `run` ran (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is held now
    run()
    return _status("VmHWM")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))
