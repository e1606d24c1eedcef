"""Keys and values of rows that are read one token at a time: their own in place, those of a beginning that many share once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

NOTHING, TINY = -1e30, 1e-30
ROOM = 64  # tokens by which the room of all rows grows


class How(Protocol):
    """As `adapters.attention.Attention`."""

    @property
    def scale(self) -> float | None: ...
    @property
    def window(self) -> int | None: ...
    @property
    def cap(self) -> float | None: ...
    @property
    def slopes(self) -> Tensor | None: ...
    @property
    def coarse(self) -> bool: ...
    @property
    def reads(self) -> tuple[int, ...] | None: ...


class KeyValues(Protocol):
    """A past of keys and values, (rows, n_kv_heads, T, head_dim)."""

    @property
    def k(self) -> Tensor: ...

    @property
    def v(self) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Shared:
    """Beginnings that rows go on from, about as many from each, and where each row's query stands in a grid of them."""

    k: Tensor  # (beginnings, n_kv_heads, S, head_dim)
    v: Tensor
    rows: Tensor  # of a past that go on from these, ascending
    place: Tensor  # of each in the grid: beginning * most + number there
    most: int  # rows of one beginning

    @classmethod
    def of(cls, k: Tensor, v: Tensor, owner: Tensor) -> tuple[Shared, ...]:
        """`owner` (rows,): the beginning of each row.

        What comes before a removal is shared by all the ablations behind it, and has many times the rows of others: beginnings are
        apart by the binary digits of how many rows they have, so that at most half of a grid is empty.
        """
        same = F.one_hot(owner, len(k))
        count, number = same.sum(0), (same.cumsum(0) * same).sum(1) - 1
        digits = [n.bit_length() for n in (count - 1).tolist()]
        found = []
        for each in sorted({digits[b] for b in owner.tolist()}):
            these = torch.tensor([b for b, n in enumerate(digits) if n == each and count[b]], device=k.device)
            rows = torch.isin(owner, these).nonzero()[:, 0]
            most = int(count[these].max())
            place = torch.searchsorted(these, owner[rows]) * most + number[rows]
            whole = len(these) == len(k)
            found.append(cls(k if whole else k[these], v if whole else v[these], rows, place, most))
        return tuple(found)

    def attend(self, q: Tensor, at: Tensor, how: How) -> tuple[Tensor, Tensor]:
        """Of queries (rows, heads of keys, group, head_dim), scaled, behind `at` (rows,) own tokens: as `_mixed`.

        All queries of a beginning and a head of keys are one matrix, so that its keys are read once for them.
        """
        grid, k, v = self._grid(q), _read(self.k, how), _read(self.v, how)  # grid: (beginnings, heads of keys, most, group, head_dim)
        scores = (grid.flatten(2, 3) @ k.mT).unflatten(2, grid.shape[2:4])
        slopes = None if how.slopes is None else how.slopes.view(grid.shape[1], 1, -1, 1)
        there = torch.arange(k.shape[2], device=q.device)
        distance = (self._grid(at[:, None, None] + k.shape[2]) - there)[:, :, :, None]  # (beginnings, 1, most, 1, S)
        scores = _scored(scores, how, _biases(how, slopes, distance, there, q.shape[-1]))
        if how.window is not None:
            scores = scores.masked_fill(distance >= how.window, -math.inf)
        out, log_z = _mixed(scores.flatten(2, 3), v)
        out, log_z = (self._flat(t.unflatten(2, grid.shape[2:4])) for t in (out, log_z))
        return out, log_z

    def _grid(self, x: Tensor) -> Tensor:
        """(rows, n_kv_heads or 1, ...) -> (beginnings, n_kv_heads or 1, most, ...), places without a row being zero."""
        grid = x.new_zeros(len(self.k) * self.most, *x.shape[1:])
        grid[self.place] = x
        return grid.unflatten(0, (-1, self.most)).transpose(1, 2)

    def _flat(self, grid: Tensor) -> Tensor:
        return grid.transpose(1, 2).flatten(0, 1)[self.place]


@dataclass(frozen=True, slots=True)
class LivePast:
    """A `Past` that is used up: a call writes behind what it holds, and what it gives back holds the same storage."""

    k: Tensor  # (rows, n_kv_heads, room, head_dim), what lies behind a row's length is ignored
    v: Tensor
    lengths: Tensor  # (rows,) own tokens
    longest: int  # of `lengths`, or more
    shared: tuple[Shared, ...] = ()  # each row goes on from one of them

    def rows(self, index: Tensor) -> LivePast:
        lengths = self.lengths[index]
        longest = int(lengths.max()) if len(index) else 0
        return LivePast(self.k[index, :, :longest], self.v[index, :, :longest], lengths, longest)

    def live(self, skip: int) -> LivePast:
        return self

    def joined(self, others: Sequence[LivePast]) -> LivePast:
        """With the rows of `others` behind its own, in storage with room for more tokens."""
        parts = [self, *others]
        longest = max(part.longest for part in parts)
        sizes = (sum(len(part.k) for part in parts), self.k.shape[1], longest + ROOM, self.k.shape[3])
        k, v = self.k.new_empty(sizes), self.v.new_zeros(sizes)  # values behind a length are multiplied with zero
        first = 0
        for part in parts:
            where = (slice(first, first + len(part.k)), slice(None), slice(0, part.longest))
            k[where], v[where] = part.k[:, :, : part.longest], part.v[:, :, : part.longest]
            first += len(part.k)
        return LivePast(k, v, torch.cat([part.lengths for part in parts]), longest)

    def behind(self, beginnings: KeyValues, owner: Tensor) -> LivePast:
        """Its rows go on from rows `owner` of a past without padding."""
        return replace(self, shared=Shared.of(beginnings.k, beginnings.v, owner))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, how: How) -> tuple[Tensor, LivePast]:
        """Attention of one token of each row over all tokens so far, as `adapters.attention.attend`; scores are in fp32 at least.

        q (rows, n_heads, 1, head_dim), k and v (rows, n_kv_heads, 1, head_dim).
        """
        after, at = self._written(k, v), self.lengths
        keys, values = (_read(t[:, :, : after.longest], how) for t in (after.k, after.v))
        scale = q.shape[-1] ** -0.5 if how.scale is None else how.scale
        grouped = q.unflatten(1, (keys.shape[1], -1))[:, :, :, 0] * scale  # (rows, heads of keys, group, head_dim)
        distance = at[:, None] - torch.arange(after.longest, device=q.device)  # (rows, longest)
        slopes = None if how.slopes is None else how.slopes.view(keys.shape[1], -1, 1)
        there = torch.arange(after.longest, device=q.device) + (self.shared[0].k.shape[2] if self.shared else 0)
        biases = _biases(how, slopes, distance[:, None, None], there, q.shape[-1])
        scores = _scored(grouped @ keys.mT, how, biases)  # (rows, heads of keys, group, longest)
        unseen = (distance < 0) | (distance >= (how.window or math.inf))
        out, log_z = _mixed(scores.masked_fill(unseen[:, None, None], -math.inf), values)
        if self.shared:
            out_before, log_z_before = torch.empty_like(out), torch.empty_like(log_z)
            for shared in self.shared:
                rows = shared.rows
                out_before[rows], log_z_before[rows] = shared.attend(grouped[rows], at[rows], how)
            share = torch.sigmoid(log_z - log_z_before)[..., None]  # of the row's own tokens
            out = torch.lerp(out_before, out, share.to(out.dtype))
        return out.flatten(1, 2)[:, :, None].to(q.dtype), after

    def _written(self, k: Tensor, v: Tensor) -> LivePast:
        old_k, old_v = self.k, self.v
        if self.longest == old_k.shape[2]:
            old_k, old_v = (F.pad(t, (0, 0, 0, ROOM)) for t in (old_k, old_v))
        row = torch.arange(len(k), device=k.device)
        old_k[row, :, self.lengths], old_v[row, :, self.lengths] = k[:, :, 0], v[:, :, 0]
        return LivePast(old_k, old_v, self.lengths + 1, self.longest + 1, self.shared)


def _read(t: Tensor, how: How) -> Tensor:
    """Keys or values (rows, n_kv_heads, T, head_dim) as query heads read them: where groups are not of one size, each for itself."""
    return t if how.reads is None else t[:, list(how.reads)]


def _biases(how: How, slopes: Tensor | None, distance: Tensor, there: Tensor, head_dim: int) -> Tensor | None:
    """Of ALiBi, by the distance of keys, or as `Attention.coarse` says by the position `there` of each."""
    if slopes is None:
        return None
    if not how.coarse:
        return -slopes * distance
    scale = head_dim**-0.5 if how.scale is None else how.scale
    return (slopes.bfloat16() * there).float() * scale


def _scored(scores: Tensor, how: How, biases: Tensor | None) -> Tensor:
    """Scores of scaled products, in fp32 at least."""
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if how.cap is not None:
        scores = how.cap * torch.tanh(scores / how.cap)
    return scores if biases is None else scores + biases


def _mixed(scores: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """softmax(scores) v (..., queries, head_dim), and the logarithm of what its sum is over (..., queries). Uses `scores` up.

    Queries that see nothing have zeros, and a logarithm that is very small.
    """
    highest = scores.amax(-1, keepdim=True).clamp(min=NOTHING)
    weights = scores.sub_(highest).exp_()
    total = weights.sum(-1, keepdim=True).clamp(min=TINY)
    return weights.div_(total).to(v.dtype) @ v, (highest + total.log())[..., 0]
