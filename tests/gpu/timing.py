"""Times on a card: what was asked of it is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


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
