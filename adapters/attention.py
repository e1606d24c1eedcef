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


def attend(q: Tensor, k: Tensor, v: Tensor, ctx: Context, past: KeyValuePast | None) -> tuple[Tensor, KeyValuePast]:
    """softmax(q k^T / sqrt(head_dim)) v for q (rows, n_heads, T, head_dim) and grouped k, v; scale and kernel are torch's.

    Without a past no mask is needed: real tokens stand left of the padding and look only to the left.
    """
    rows, time = q.shape[0], q.shape[2]
    new = _lengths(ctx, rows, time, q.device)
    if past is None:
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])
        return out, KeyValuePast(k, v, new)
    old = past.k.shape[2]
    k, v = torch.cat([past.k, k], 2), torch.cat([past.v, v], 2)
    seen = torch.arange(old, device=q.device) < past.lengths[:, None]  # (rows, old)
    causal = torch.ones(time, time, dtype=torch.bool, device=q.device).tril()
    mask = torch.cat([seen[:, None].expand(-1, time, -1), causal.expand(rows, -1, -1)], -1)[:, None]
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=q.shape[1] != k.shape[1])
    return out, _compact(k, v, past.lengths, new, old)


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
