"""Causal attention over right-padded rows, and its past."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adapters.base import Context


@dataclass(frozen=True, slots=True)
class KeyValuePast:
    """Keys and values of each row's real tokens."""

    k: Tensor  # (rows, n_kv_heads, T, head_dim), what lies behind a row's length is ignored
    v: Tensor
    lengths: Tensor  # (rows,)

    def rows(self, index: Tensor) -> KeyValuePast:
        return KeyValuePast(self.k[index], self.v[index], self.lengths[index])


class AttentionContext(Context):
    """A context that knows how its family's queries see keys."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, past: KeyValuePast | None) -> tuple[Tensor, KeyValuePast]:
        """Mixes values v (rows, n_kv_heads, T, head_dim) into (rows, n_heads, T, head_dim)."""
        raise NotImplementedError


def attend(q: Tensor, k: Tensor, v: Tensor, ctx: Context, past: KeyValuePast | None) -> tuple[Tensor, KeyValuePast]:
    """softmax(q k^T / sqrt(head_dim)) v for q (rows, n_heads, T, head_dim) and grouped k, v; scale and kernel are torch's.

    Without a past no mask is needed: real tokens stand left of the padding and look only to the left.
    """
    k, v, after = join(k, v, ctx, past)
    mask = None
    if past is not None:
        now, there = positions(q.shape[2], past, q.device)
        mask = there[:, None, None] <= now[:, None, :, None]  # (rows, 1, T, old + T)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=q.shape[1] != k.shape[1])
    return out, after


def join(k: Tensor, v: Tensor, ctx: Context, past: KeyValuePast | None) -> tuple[Tensor, Tensor, KeyValuePast]:
    """Keys and values of the past and of now, and the past of what comes next."""
    new = _lengths(ctx, k.shape[0], k.shape[2], k.device)
    if past is None:
        return k, v, KeyValuePast(k, v, new)
    k, v = torch.cat([past.k, k], 2), torch.cat([past.v, v], 2)
    return k, v, _compact(k, v, past.lengths, new, past.k.shape[2])


def positions(time: int, past: KeyValuePast | None, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where the queries (1 or rows, T) and the joined keys (1 or rows, old + T) stand; padding stands behind all queries."""
    now = torch.arange(time, device=device)[None]
    if past is None:
        return now, now
    start, slot = past.lengths[:, None], torch.arange(past.k.shape[2], device=device)
    return start + now, torch.cat([torch.where(slot < start, slot, start + time), start + now], 1)


def _compact(k: Tensor, v: Tensor, before: Tensor, new: Tensor, old: int) -> KeyValuePast:
    """Moves each row's new tokens to right behind its old ones, over the padding between them."""
    total = before + new
    slot = torch.arange(int(total.max()), device=k.device)
    source = torch.where(slot < before[:, None], slot, slot + old - before[:, None]).clamp(max=k.shape[2] - 1)
    index = source[:, None, :, None].expand(-1, k.shape[1], -1, k.shape[3])
    return KeyValuePast(k.gather(2, index), v.gather(2, index), total)


def _lengths(ctx: Context, rows: int, time: int, device: torch.device) -> Tensor:
    if ctx.lengths is None:
        return torch.full((rows,), time, device=device)
    return ctx.lengths.to(device).repeat(rows // ctx.documents)
