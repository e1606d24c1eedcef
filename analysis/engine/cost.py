"""What a sweep takes on this machine, known before it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from adapters.base import BlockModel
from analysis.engine.plan import Plan
from analysis.engine.sweep import call_bytes, call_tokens, documents_per_batch, stream_bytes, streams_within


@dataclass(frozen=True, slots=True)
class Cost:
    """What a sweep takes, known before it runs."""

    mixer_rows: int  # for each document
    ffn_rows: int
    tokens: int  # scored or not, of one reading of the text
    memory: int  # bytes beside the model
    seconds: float


def cost(model: BlockModel, sweep: Plan, documents: int, window: int, memory: int | None = None) -> Cost:
    """The plan's operations at the speed of a forward pass on this machine. Raises StrataError when `memory` is too small."""
    batch = min(documents, documents_per_batch(model, sweep, window, memory))
    streams = min(sweep.widest, streams_within(memory, model, sweep, batch, window))
    held = call_bytes(model, sweep, batch, window) + streams * stream_bytes(model, batch, window)
    seconds = sweep.flops_per_token * documents * window / speed(model, window)
    return Cost(sweep.mixer_rows, sweep.ffn_rows, documents * window, held, seconds)


def speed(model: BlockModel, window: int) -> float:
    """FLOPs a second of a plain forward pass with head over as many rows as a call takes: the best of three."""
    ids = torch.zeros(max(1, call_tokens(model.device) // window), window, dtype=torch.long, device=model.device)
    work = ids.numel() * model.spec.flops_per_token
    return work / min(_seconds(lambda: model.run(ids).float().logsumexp(-1), model.device) for _ in range(3))


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    with torch.inference_mode():
        call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
