"""Times on a card: what was asked of it is waited for."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch

T = TypeVar("T")


class TimeUp(BaseException):
    """Not an error of the part that it ends, which notes errors as what it found."""


def collect(rows: Iterable[T], found: list[T], end: float) -> None:
    """Appends rows until `time.monotonic()` is `end`: the one that is looked for then is given up where Python next runs."""

    def stop(*_: object) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGALRM, stop)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, max(end - time.monotonic(), 1e-6))  # 0 is no alarm
            for row in rows:
                found.append(row)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except TimeUp:
        pass
    finally:
        signal.signal(signal.SIGALRM, before)


def best(run: Callable[[], object], device: torch.device, rounds: int = 3, *, warm: bool = True) -> float:
    """Seconds, the best of `rounds`, behind one that does not count where it is to be `warm`."""
    times = []
    with torch.inference_mode():
        for _ in range(rounds + warm):
            wait(device)
            start = time.perf_counter()
            run()
            wait(device)
            times.append(time.perf_counter() - start)
    return min(times[warm:])


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def matmul_rate(device: torch.device, dtype: torch.dtype, n: int) -> float:
    """FLOPs a second of products of square matrices (n, n)."""
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    return 2 * n**3 / best(lambda: a @ b, device, rounds=5)
