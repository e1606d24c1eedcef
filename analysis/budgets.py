"""Budgets: how much text a study may read, fitted to the machine by the plan."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from adapters.base import BlockModel
from adapters.errors import unknown
from analysis.plan import Plan, plan
from analysis.statistics import ENOUGH
from analysis.sweep import call_bytes, documents_per_batch, stream_bytes


@dataclass(frozen=True, slots=True)
class Budget:
    window: int  # tokens
    documents: int  # at most
    seconds: float | None  # that one sweep may take; None: as long as it takes


BUDGETS = {"quick": Budget(128, 24, 240), "full": Budget(512, 128, None)}


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
    """The plan's operations at the speed of a short forward pass on this machine."""
    batch = min(documents, documents_per_batch(model, sweep, window, memory))
    held = call_bytes(model, sweep, batch, window) + sweep.widest * stream_bytes(model, batch, window)
    seconds = sweep.flops_per_token * documents * window / speed(model, window)
    return Cost(sweep.mixer_rows, sweep.ffn_rows, documents * window, min(held, memory or held), seconds)


def fit(model: BlockModel, sweep: Plan, budget: Budget) -> int:
    """How many documents of the budget's window its seconds hold, but never too few for an interval."""
    if budget.seconds is None:
        return budget.documents
    each = cost(model, sweep, 1, budget.window).seconds
    return max(ENOUGH, min(budget.documents, int(budget.seconds / each)))


def speed(model: BlockModel, window: int) -> float:
    """FLOPs a second of a short plain forward pass with head: the best of three."""
    ids = torch.zeros(1, window, dtype=torch.long, device=model.device)
    work = window * plan(model.spec, []).flops_per_token
    return work / min(_seconds(lambda: model.run(ids).float().logsumexp(-1), model.device) for _ in range(3))


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    with torch.inference_mode():
        call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
