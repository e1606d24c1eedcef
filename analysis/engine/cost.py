"""What a study takes on this machine, known before it runs."""

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

    @classmethod
    def of(cls, model: BlockModel, plan: Plan, tokens: int, memory: int, seconds: float, read: int) -> Cost:
        """`memory` without the blocks that are held where weights are streamed."""
        passes = 0.0
        if (reader := model.reader) is not None:
            memory, passes = memory + reader.held_bytes, read / reader.bytes_of(range(len(model.blocks)))
        return cls(plan.mixer_rows, plan.ffn_rows, plan.again_rows, tokens, memory, seconds, read, passes)


def cost(model: BlockModel, sweep: Plan, documents: int, window: int, memory: int | None = None, kl: bool = True) -> Cost:
    """The plan's operations at the speed of a forward pass on this machine. Raises StrataError when `memory` is too small."""
    batch = min(documents, batch_size(model, sweep, documents, window, memory, kl))
    room = room_for(memory, model, sweep, batch, window)
    streams = min(sweep.widest, room.streams)
    held = call_bytes(model, sweep, batch, window, room.pieces) + streams * stream_bytes(model, batch, window)
    read = weights_read(model, sweep, documents, batch, window, memory, kl)
    took = seconds(model, sweep.flops_per_token * documents * window, window, read)
    return Cost.of(model, sweep, documents * window, held, took, read)


def seconds(model: BlockModel, flops: float, window: int, read: int = 0) -> float:
    """At the speed of a forward pass on this machine, or that of reading: streamed weights are read while blocks compute."""
    return max(flops / speed(model, window), 0.0 if model.reader is None else read / model.reader.rate)


def speed(model: BlockModel, window: int) -> float:
    """FLOPs a second of a plain forward pass with head over as many rows as a call takes: the best of three.

    Where weights are streamed it is that of the first block, which is read once. Tokens are random, so that all experts are met.
    """
    if model.reader is not None:
        model = model.with_blocks(model.blocks[:1])
    shape = max(1, pieces_of(model.device).tokens // window), window
    ids = torch.randint(model.spec.vocab_size, shape, generator=torch.Generator().manual_seed(0)).to(model.device)
    work = ids.numel() * model.spec.flops_per_token
    return work / min(_seconds(lambda: model.run(ids).float().logsumexp(-1), model.device) for _ in range(3))


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    with torch.inference_mode():
        call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
