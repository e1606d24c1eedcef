"""What recurrent mixers share: precision, rows in groups, and what is known of each document on the rows of a stream."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adapters.base import Context

CPU_TOKENS = 1024  # at a time on a CPU: more of them read their activations from memory, a seventh slower


def wide(x: Tensor) -> Tensor:
    """In fp32, or fp64 when it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def by_rows(f: Callable[..., tuple[Tensor, ...]], x: Tensor, *others: Tensor | None, elsewhere: int | None = None) -> tuple[Tensor, ...]:
    """f(x, ...) over rows; on a CPU by groups whose activations stay in its caches, `elsewhere` of so many tokens, or all at once."""
    tokens = CPU_TOKENS if x.device.type == "cpu" else elsewhere
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
