"""Causal attention over right-padded rows, and its past."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adapters.block import Context
from adapters.live_past import LivePast

SCORES = 1 << 24  # masks or scores that exist at once where they are written out: 64 MB; of 40 heads x 4096 x 4096 it would be 2.7 GB


@dataclass(frozen=True, slots=True)
class KeyValuePast:
    """Keys and values of each row's real tokens."""

    k: Tensor  # (rows, n_kv_heads, T, head_dim), what lies behind a row's length is ignored
    v: Tensor
    lengths: Tensor  # (rows,)

    def rows(self, index: Tensor) -> KeyValuePast:
        return KeyValuePast(self.k[index], self.v[index], self.lengths[index])

    def joined(self, others: Sequence[KeyValuePast]) -> KeyValuePast:
        """All of one length."""
        parts = [self, *others]
        return KeyValuePast(*(torch.cat([getattr(part, name) for part in parts]) for name in ("k", "v", "lengths")))

    def behind(self, beginnings: KeyValuePast, owner: Tensor) -> LivePast:
        return self.live(0).behind(beginnings, owner)

    def live(self, skip: int) -> LivePast:
        longest = int(self.lengths.max())
        return LivePast(self.k[:, :, skip:longest], self.v[:, :, skip:longest], self.lengths - skip, longest - skip)


AnyPast = KeyValuePast | LivePast


@dataclass(frozen=True, slots=True)
class Attention:
    """How the queries of one block see keys."""

    scale: float | None = None  # of the products of queries and keys; None: 1 / sqrt(head_dim)
    window: int | None = None  # so many tokens are seen, the last of them the query's own; None: all up to it
    cap: float | None = None  # a score s becomes cap * tanh(s / cap)
    slopes: Tensor | None = None  # (n_heads,) of ALiBi: a score loses slope * distance
    coarse: bool = False  # ALiBi as in Falcon's code: slope * position of the key in bf16, added before scores are scaled
    reads: tuple[int, ...] | None = None  # the key-value head of each query head, where groups are not of one size


PLAIN = Attention()


def attend(q: Tensor, k: Tensor, v: Tensor, ctx: Context, past: AnyPast | None, how: Attention = PLAIN) -> tuple[Tensor, AnyPast]:
    """softmax(q k^T * scale) v for q (rows, n_heads, T, head_dim) and grouped k, v, with what else `how` says; the kernel is torch's.

    Without a past no mask is needed: real tokens stand left of the padding and look only to the left.
    """
    if isinstance(past, LivePast):
        return past.attend(q, k, v, how)
    k, v, after = join(k, v, ctx, past)
    if how.reads is not None:
        reads = torch.tensor(how.reads, device=k.device)
        k, v = k[:, reads], v[:, reads]
    if how.cap is not None or how.slopes is not None or (how.window is not None and k.shape[2] > how.window):
        return _by_slices(q, k, v, past, how), after
    mask = None
    if past is not None:
        now, there = positions(q.shape[2], past, q.device)
        mask = there[:, None, None] <= now[:, None, :, None]  # (rows, 1, T, old + T)
    return _softmax(q, k, v, how, mask), after


def _by_slices(q: Tensor, k: Tensor, v: Tensor, past: KeyValuePast | None, how: Attention) -> Tensor:
    """Attention whose masks or scores are written out, a slice of queries at a time.

    Scores that are not the kernel's are computed in fp32 at least. ALiBi goes by distances: published code adds slope * key
    position, which bf16 rounds by up to 16.
    """
    time, own = q.shape[2], how.cap is not None or how.slopes is not None
    wide = torch.promote_types(q.dtype, torch.float32) if own else q.dtype
    now, there = positions(time, past, q.device)
    q, keys, values = q.to(wide), k.to(wide), v.to(wide)
    numbers = there.numel() if how.cap is None else q.shape[0] * there.shape[1]  # for each query and head
    step = max(1, SCORES // (numbers * (q.shape[1] if own else 1)))
    outs = []
    for first in range(0, time, step):
        last = min(first + step, time)
        seen = k.shape[2] - time + last  # no query of this slice looks behind it
        distance = now[:, None, first:last, None] - there[:, None, None, :seen]  # (1 or rows, 1, slice, seen)
        mask = (distance >= 0) & (distance < (how.window or math.inf))
        if how.slopes is not None:
            bias = _coarse(how, there[:, :seen], q) if how.coarse else -how.slopes.to(wide)[:, None, None] * distance
            mask = torch.where(mask, bias, -math.inf)  # (1 or rows, n_heads, slice, seen)
        outs.append(_softmax(q[:, :, first:last], keys[:, :, :seen], values[:, :, :seen], how, mask))
    return torch.cat(outs, 2).to(v.dtype)


def _coarse(how: Attention, there: Tensor, q: Tensor) -> Tensor:
    """Biases (1 or rows, n_heads, 1, seen) of keys at positions (1 or rows, seen), which bf16 rounds in every dtype of the model."""
    assert how.slopes is not None
    scale = q.shape[-1] ** -0.5 if how.scale is None else how.scale
    return (how.slopes.bfloat16()[:, None, None] * there[:, None, None]).to(q.dtype) * scale


def _softmax(q: Tensor, k: Tensor, v: Tensor, how: Attention, mask: Tensor | None) -> Tensor:
    """The weighted values, with a mask of what is seen or of what is added to scores; without one, all up to each query."""
    if how.cap is None:
        grouped = q.shape[1] != k.shape[1]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, scale=how.scale, enable_gqa=grouped)
    assert mask is not None
    assert mask.dtype == torch.bool, "no model has both a cap and slopes"
    scale = q.shape[-1] ** -0.5 if how.scale is None else how.scale
    scores = q.unflatten(1, (k.shape[1], -1)) @ k[:, :, None].mT  # (rows, n_kv_heads, heads of a group, T, seen)
    scores = how.cap * torch.tanh(scores * (scale / how.cap))
    return (scores.masked_fill(~mask[:, :, None], -math.inf).softmax(-1) @ v[:, :, None]).flatten(1, 2)


def join(k: Tensor, v: Tensor, ctx: Context, past: KeyValuePast | None) -> tuple[Tensor, Tensor, KeyValuePast]:
    """Keys and values of the past and of now, and the past of what comes next."""
    new = _lengths(ctx, k.shape[0], k.shape[2], k.device)
    if past is None:
        return k, v, KeyValuePast(k, v, new)
    old = past.k.shape[2]
    k, v = torch.cat([past.k, k], 2), torch.cat([past.v, v], 2)
    if ctx.lengths is None and bool((past.lengths == old).all()):  # no padding between them
        return k, v, KeyValuePast(k, v, past.lengths + new)
    return k, v, _compact(k, v, past.lengths, new, old)


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
