"""The recurrences of Mamba and Mamba-2 token by token in fp64, in the shapes of `adapters/families/mamba/scan.py`."""

from __future__ import annotations

import torch
from torch import Tensor


def selective_loop(x: Tensor, step: Tensor, rate: Tensor, b: Tensor, c: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """`scan.selective` by its definition."""
    out, (x, step, rate, b, c, state) = [], (t.double() for t in (x, step, rate, b, c, state))
    for t in range(x.shape[1]):
        state = (step[:, t, :, None] * rate).exp() * state + (step[:, t] * x[:, t])[..., None] * b[:, t, None]
        out.append((state * c[:, t, None]).sum(-1))
    return torch.stack(out, 1), state


def dual_loop(x: Tensor, step: Tensor, rate: Tensor, b: Tensor, c: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """`scan.dual` by its definition."""
    heads, channels = x.shape[2:]
    y, after = selective_loop(
        x.flatten(2),
        step.repeat_interleave(channels, -1),
        rate.repeat_interleave(channels)[:, None].expand(-1, b.shape[-1]),
        b,
        c,
        state.flatten(1, 2),
    )
    return y.unflatten(-1, (heads, channels)), after.unflatten(1, (heads, channels))
