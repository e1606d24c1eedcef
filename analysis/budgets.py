"""Budgets: how much text a study may read, fitted to the machine by the plan."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from adapters.base import BlockModel
from adapters.errors import unknown
from analysis.plan import Plan
from analysis.statistics import ENOUGH
from analysis.sweep import call_bytes, call_tokens, documents_per_batch, stream_bytes, streams_within


@dataclass(frozen=True, slots=True)
class Budget:
    window: int  # tokens
    documents: int  # at most
    seconds: float | None  # that one sweep may take; None: as long as it takes
    report: float | None = None  # seconds for all sections of a report and its comparison; None: it holds everything

    def within(self, *models: BlockModel) -> Budget:
        """The same with a window that the context of every model holds, with a token to spare for BOS."""
        return replace(self, window=min(self.window, *(model.spec.max_len - 1 for model in models)))


BUDGETS = {"quick": Budget(128, 24, 180, report=480), "full": Budget(512, 64, None)}


def budget(name: str) -> Budget:
    """Raises StrataError on an unknown name."""
    if name not in BUDGETS:
        raise unknown("budget", name, BUDGETS)
    return BUDGETS[name]


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


def fit(model: BlockModel, sweep: Plan, budget: Budget) -> int:
    """How many documents of the budget's window its seconds hold; enough for an interval if four times as long will do.

    A busy minute must not cost a report its intervals; hours that nobody asked for must not be spent either.
    """
    if budget.seconds is None:
        return budget.documents
    each = cost(model, sweep, 1, budget.window).seconds
    least = ENOUGH if ENOUGH * each <= 4 * budget.seconds else 1
    return max(least, min(budget.documents, int(budget.seconds / each)))


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
