"""What a sweep takes on this machine, known before it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from adapters.base import BlockModel
from analysis.engine.passes import batch_size, weights_read
from analysis.engine.pieces import pieces_of
from analysis.engine.plan import Plan
from analysis.engine.sweep import call_bytes, room_for, stream_bytes


@dataclass(frozen=True, slots=True)
class Cost:
    """What a sweep takes, known before it runs."""

    mixer_rows: int  # for each document
    ffn_rows: int
    again_rows: float  # of ffns on the tokens of experts that are out, expected; a row is a document
    tokens: int  # scored or not, of one reading of the text
    memory: int  # bytes beside the model
    seconds: float
    weights_read: int = 0  # bytes of its files, where weights are streamed
    passes: float = 0.0  # through the blocks' part of the files


def cost(model: BlockModel, sweep: Plan, documents: int, window: int, memory: int | None = None, kl: bool = True) -> Cost:
    """The plan's operations at the speed of a forward pass on this machine. Raises StrataError when `memory` is too small.

    Streamed weights are read while blocks compute: it takes as long as the longer of the two.
    """
    batch = min(documents, batch_size(model, sweep, documents, window, memory, kl))
    room = room_for(memory, model, sweep, batch, window)
    streams = min(sweep.widest, room.streams)
    held = call_bytes(model, sweep, batch, window, room.pieces) + streams * stream_bytes(model, batch, window)
    seconds = sweep.flops_per_token * documents * window / speed(model, window)
    read, passes = 0, 0.0
    if (reader := model.reader) is not None:
        held += reader.held_bytes
        read = weights_read(model, sweep, documents, batch, window, memory, kl)
        passes = read / reader.bytes_of(range(len(model.blocks)))
        seconds = max(seconds, read / reader.rate)
    return Cost(sweep.mixer_rows, sweep.ffn_rows, sweep.again_rows, documents * window, held, seconds, read, passes)


def speed(model: BlockModel, window: int) -> float:
    """FLOPs a second of a plain forward pass with head over as many rows as a call takes: the best of three.

    Where weights are streamed it is that of the first block, which is read once.
    """
    if model.reader is not None:
        model = model.with_blocks(model.blocks[:1])
    ids = torch.zeros(max(1, pieces_of(model.device).tokens // window), window, dtype=torch.long, device=model.device)
    work = ids.numel() * model.spec.flops_per_token
    return work / min(_seconds(lambda: model.run(ids).float().logsumexp(-1), model.device) for _ in range(3))


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    with torch.inference_mode():
        call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
