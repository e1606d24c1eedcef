"""The recurrences of RWKV-5 to 7 token by token, in the shapes of `adapters/families/rwkv/wkv.py`."""

from __future__ import annotations

import torch
from torch import Tensor


def linear_loop(r: Tensor, k: Tensor, v: Tensor, logw: Tensor, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """`wkv.linear` by its definition."""
    out, w = [], logw.exp().expand_as(k)
    for t in range(r.shape[1]):
        kv = k[:, t, :, :, None] * v[:, t, :, None]  # (R, H, N, N)
        out.append((r[:, t, :, None] @ (state + u[..., None] * kv)).squeeze(-2))
        state = w[:, t, ..., None] * state + kv
    return torch.stack(out, 1), state


def delta_loop(r: Tensor, logw: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """`wkv.delta` by its definition."""
    out, w = [], logw.exp()
    for t in range(r.shape[1]):
        seen = a[:, t, :, None] @ state  # (R, H, 1, N)
        state = w[:, t, ..., None] * state + b[:, t, ..., None] * seen + k[:, t, ..., None] * v[:, t, :, None]
        out.append((r[:, t, :, None] @ state).squeeze(-2))
    return torch.stack(out, 1), state
