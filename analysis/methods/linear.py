"""A span of blocks replaced by a linear map, which goes into the ffn before it (ReplaceMe, Shopkhoev et al., arXiv 2505.02819).

The map acts on the output m of that ffn alone, as in the paper: behind the span the stream is x, in front of it x' = x_mid + m,
and V minimises the sum of ||x - x' - m V||^2 over calibration tokens. Then x_mid + m (I + V) is nearest to x, and I + V goes into
the down projection: the result has fewer blocks of the same architecture. V = 0 is the span's removal.

The ffn of RWKV-4 to 6 is m = r * u with u linear in the down projection and r a gate for every token and channel. A map behind the
gate is no down projection, since r differs from token to token. One before it is: m' = r * (u (I + V)). Its least squares fall
apart by channel c of the output, with squares of r_c as weights of tokens.

The span is the one of its length that turns the stream least, by the mean angle over tokens, and has a block before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from adapters.base import BlockModel, Parts
from adapters.errors import StrataError
from adapters.export import remaining
from adapters.llama import LlamaBlock
from adapters.rwkv.blocks import RwkvBlock, RwkvContext
from analysis.corpora.text import Batch
from analysis.importance import counted
from analysis.importance.spans import Span, all_spans, angular
from analysis.methods.method import Knob, Method, Remembered, without_last

DAMPING = 1e-4  # share of the mean of the moments' diagonal


class Moments(NamedTuple):
    """What least squares needs of the tokens, in fp64."""

    m: Tensor  # (tokens, d), what the map acts on
    gate: Tensor | None  # (tokens, d), what its output is multiplied with
    change: Tensor  # (tokens, d), of the stream by the span


@Remembered
def angles(model: BlockModel, batches: Sequence[Batch]) -> dict[Span, float]:
    """How far the stream turns across every span, summed over tokens, the first of each document aside."""
    sums = [angular(model, b.ids, b.lengths, first_token=False)["angular_all"].sum(1) for b in batches]
    return dict(zip(all_spans(len(model.blocks)), np.sum(sums, axis=0).tolist(), strict=True))


def straightest(model: BlockModel, batches: Sequence[Batch], length: int) -> Span:
    """The span of `length` blocks, not from block 0 on, across which the stream turns least on average over tokens."""
    of_length = {span: angle for span, angle in angles(model, batches).items() if span[1] == length and span[0]}
    return min(of_length, key=lambda span: of_length[span])


@torch.inference_mode()
def fit(model: BlockModel, batches: Sequence[Batch], span: Span, *, damping: float = DAMPING) -> Tensor:
    """The map I + V (d, d) of a span, in fp64, by ridge regression that pulls V to zero; `damping` is a share of the mean of the
    moments' diagonal. The first token of a document is left out: its stream can be so large that it alone decides.

    Raises StrataError when there are no more tokens than dimensions, and on moments that are singular or not finite.
    """
    d, moments = model.spec.d_model, _moments(model, batches, span)
    n = len(moments.m)
    if n <= d:
        raise StrataError(f"{n} calibration tokens fit any linear map of {d} dimensions: give several times as many")
    what = f"the covariance of what the ffn of block {span[0] - 1} gives on {n} calibration tokens"
    m, gate, change = moments
    if gate is None:
        v = _ridge(m.T @ m, m.T @ change, damping, what)
    else:
        weighted = (((m * g.square()[:, None]).T @ m, m.T @ (g * y)) for g, y in zip(gate.T, change.T, strict=True))  # by output channel
        v = torch.stack([_ridge(a, b, damping, what) for a, b in weighted], 1)
    return torch.eye(d, dtype=v.dtype, device=v.device) + v


def _ridge(a: Tensor, b: Tensor, damping: float, what: str) -> Tensor:
    """Solves (a + damping * mean diagonal) v = b for a (d, d) and b (d, ...)."""
    if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        raise StrataError(f"{what} is not finite, or what the span changes is not: look for damaged weights, or take a wider dtype")
    mean = a.diagonal().mean()
    factor, failed = torch.linalg.cholesky_ex(a + damping * mean * torch.eye(len(a), dtype=a.dtype, device=a.device))
    pivots = factor.diagonal().square()
    if failed or not pivots.min() > len(a) * torch.finfo(a.dtype).eps * pivots.max():
        fix = (
            f"a damping of {max(1e-6, 10 * damping):g} fixes it"
            if mean > 0
            else "it gives nothing, and no damping helps: replace another span"
        )
        raise StrataError(f"{what} is singular with a damping of {damping:g}: {fix}")
    return torch.cholesky_solve(b.unsqueeze(-1) if b.dim() == 1 else b, factor).view_as(b)


def _moments(model: BlockModel, batches: Sequence[Batch], span: Span) -> Moments:
    start, length = span
    last, block, rows = start + length - 1, _foldable(model, start - 1), list[tuple[Tensor, ...]]()
    for batch in batches:
        ids, lengths = batch.ids.to(model.device), batch.lengths.to(model.device)
        real, seen = counted(ids, lengths, False), dict[int, Parts]()

        def tap(i: int, parts: Parts, seen: dict[int, Parts] = seen) -> None:
            if i in (start - 1, last):
                seen[i] = parts

        model.stream(ids, lengths=lengths, tap=tap)
        mid, ctx = seen[start - 1].x_mid, cast(RwkvContext, model.begin(ids, lengths=lengths)[1])
        linear, gate = (_without_gate(block), block.gate(mid, ctx)) if isinstance(block, RwkvBlock) else (block, None)
        found = [linear.ffn(mid, ctx)[0], seen[last].x_out - seen[start - 1].x_out, *([] if gate is None else [gate])]
        rows.append(tuple(t[real].double() for t in found))
    m, change, *gates = (torch.cat(parts) for parts in zip(*rows, strict=True))
    return Moments(m, gates[0] if gates else None, change)


def _without_gate(block: RwkvBlock) -> RwkvBlock:
    return replace(block, weights={role: t for role, t in block.weights.items() if role != "receptance"})


def _foldable(model: BlockModel, i: int) -> LlamaBlock | RwkvBlock:
    block = model.blocks[i]
    if not isinstance(block, LlamaBlock | RwkvBlock):
        raise StrataError(
            f"a linear map cannot go into the ffn of a {type(block).__name__}: replace a span before anything else is changed"
        )
    return block


def fold(model: BlockModel, span: Span, t: Tensor) -> BlockModel:
    """The model without a span, the map `t` (d, d) behind the down projection of the ffn before it. All other weights are shared."""
    start, length = span
    block = _foldable(model, start - 1)
    folded = {role: (t.mT @ w.double()).to(w.dtype) for role, w in block.weights.items() if role in ("down", "down_bias")}
    kept = [model.blocks[i] for i in remaining(model.spec, range(start, start + length))]
    kept[start - 1] = replace(block, weights=block.weights | folded)
    return model.with_blocks(kept)


def counts(model: BlockModel) -> Sequence[int]:
    """How many blocks can go: block 0 stays, for its ffn takes the map."""
    return range(1, len(model.blocks))


def prune(model: BlockModel, batches: Sequence[Batch], knob: Knob) -> BlockModel:
    span = straightest(model, batches, int(knob))
    return fold(model, span, fit(model, batches, span))


LINEAR = Method("linear replacement", "2505.02819", prune, counts, without_last, ("llama", "baichuan", "rwkv"), stock=True)
