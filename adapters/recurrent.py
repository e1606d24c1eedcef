"""What recurrent mixers share: precision, rows in groups, what is known of each document on the rows of a stream, kernels of others."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from adapters.block import Context

CPU_TOKENS = 1024  # at a time on a CPU: more of them read their activations from memory, a seventh slower


def wide(x: Tensor) -> Tensor:
    """In fp32, or fp64 when it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def at_once(device: torch.device, elsewhere: int | None) -> int | None:
    """How many tokens `by_rows` takes at a time; a row is never cut. None: all of them."""
    return CPU_TOKENS if device.type == "cpu" else elsewhere


def by_rows(f: Callable[..., tuple[Tensor, ...]], x: Tensor, *others: Tensor | None, elsewhere: int | None = None) -> tuple[Tensor, ...]:
    """f(x, ...) over rows; on a CPU by groups whose activations stay in its caches, `elsewhere` of so many tokens, or all at once."""
    tokens = at_once(x.device, elsewhere)
    group = len(x) if tokens is None else max(1, tokens // x.shape[1])
    if len(x) <= group:
        return f(x, *others)
    starts = range(0, len(x), group)
    parts = [f(*(None if t is None else t[i : i + group] for t in (x, *others))) for i in starts]
    return tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))


def repeated(per_document: Tensor, ctx: Context, x: Tensor) -> Tensor:
    """(D, ...) -> (rows of x, ...), variant-major."""
    variants = len(x) // ctx.documents
    return per_document.expand(variants, *per_document.shape).flatten(0, 1)


def kernels_for(module: str, x: Tensor) -> ModuleType | None:
    """A module of kernels, of a package that is not required, when it is installed and they take tensors like `x`: fp32, on a card."""
    return imported(module) if x.is_cuda and x.dtype == torch.float32 else None


@functools.cache
def imported(module: str) -> ModuleType | None:
    """None where its package is not installed."""
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        return None
    os.environ.setdefault("TRITON_F32_DEFAULT", "ieee")  # else the kernels round products of fp32 to ten bits
    return importlib.import_module(module)
