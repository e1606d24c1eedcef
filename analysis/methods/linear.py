"""A span of blocks replaced by a linear map, which goes into the ffn before it (ReplaceMe, Shopkhoev et al., arXiv 2505.02819).

The map acts on the output m of that ffn alone, as in the paper: behind the span the stream is x, in front of it x' = x_mid + m,
and V minimises the sum of ||x - x' - m V||^2 over calibration tokens. Then x_mid + m (I + V) is nearest to x, and I + V goes into
the down projection: the result has fewer blocks of the same architecture. V = 0 is the span's removal.

The ffn of RWKV-4 to 6 is m = r * u with u linear in the down projection and r a gate for every token and channel. A map behind the
gate is no down projection, since r differs from token to token. One before it is: m' = r * (u (I + V)). Its least squares fall
apart by channel c of the output, with squares of r_c as weights of tokens.

The span is the one of its length that turns the stream least, by the mean angle over tokens, and has a block before it. The published
code takes the angle at last tokens, thousands of documents and no damping. A map has d^2 numbers: with 4 calibration tokens for each
dimension it can cost more than plain removal, with 16 (`method.TOKENS`) it is about even or better, and more text helps further.

All tokens are fitted, as there, also the first of each document. It can be so large that it has nearly all of the squares of m
(23,000 against 30 behind block 11 of SmolLM2, beside the straightest span of four blocks), which costs the others one direction and
makes the damping stronger; but later tokens attend to it, and a map that was fitted without it on little text ruins it: with 4 tokens a
dimension the loss of that model rises by 3.04 nats per token, by 0.30 with it, and by 0.55 when the span is plainly removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from adapters.base import BlockModel
from adapters.block import Parts
from adapters.checkpoints.export import remaining
from adapters.errors import StrataError
from adapters.families.rwkv.blocks import RwkvBlock
from analysis.data.batches import Batch
from analysis.engine.tokens import counted
from analysis.methods.method import Level, Method, Remembered, UnreachableError, without_last
from analysis.metrics.spans import Span, all_spans, angular

DAMPING = 1e-4  # share of the mean of the moments' diagonal
MOST = 1e15  # operations of a fit behind a gate, in fp64: hours on a CPU, seconds to minutes where fp64 is fast


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
    moments' diagonal.

    With n tokens that is a product of n d^2 and a factor of d^3 operations, about; behind a gate it is one of each for every channel,
    d times as much. Raises StrataError when there are no more tokens than dimensions, and on moments that are singular or not
    finite; UnreachableError when a fit behind a gate would take more than MOST operations.
    """
    d, n, i = model.spec.d_model, sum(int(batch.lengths.sum()) for batch in batches), span[0] - 1
    if n <= d:
        raise StrataError(f"{n} calibration tokens fit any linear map of {d} dimensions: give several times as many")
    gated = "receptance" in model.blocks[i].weights
    if gated and (work := d * (2 * n * d**2 + d**3 / 3)) > MOST:
        raise UnreachableError(
            f"a linear map in front of a gate, which the ffn of {model.spec.name} has, is fitted channel by channel: {d} channels and "
            f"{n} calibration tokens take {work:.0e} operations in fp64, of at most {MOST:.0e} here; use another method"
        )
    what = f"the covariance of what the ffn of block {i} gives on {n} calibration tokens"
    if not gated:
        a = b = torch.zeros(d, d, dtype=torch.float64, device=model.device)
        for m, change in _moments(model, batches, span):
            a, b = a + m.T @ m, b + m.T @ change
        v = _ridge(a, b, damping, what)
    else:
        m, change, gate = (torch.cat(parts) for parts in zip(*_moments(model, batches, span), strict=True))
        weighted = (((m * g.square()[:, None]).T @ m, m.T @ (g * y)) for g, y in zip(gate.T, change.T, strict=True))  # by output channel
        v = torch.stack([_ridge(a, b, damping, what) for a, b in weighted], 1)
    return torch.eye(d, dtype=v.dtype, device=v.device) + v


def _ridge(a: Tensor, b: Tensor, damping: float, what: str) -> Tensor:
    """Solves (a + damping * mean diagonal) v = b for a (d, d) and b (d, ...)."""
    if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        raise StrataError(f"{what} is not finite, or what the span changes is not: look for damaged weights, or use a wider dtype")
    mean = a.diagonal().mean()
    factor, failed = torch.linalg.cholesky_ex(a + damping * mean * torch.eye(len(a), dtype=a.dtype, device=a.device))
    pivots = factor.diagonal().square()
    if failed or not pivots.min() > len(a) * torch.finfo(a.dtype).eps * pivots.max():
        fix = (
            f"more calibration text fixes it where this is short, and from Python linear.fit(..., damping={max(1e-6, 10 * damping):g})"
            if mean > 0
            else "it gives nothing, and no damping helps: replace another span"
        )
        raise StrataError(f"{what} is singular with a damping of {damping:g}: {fix}")
    return torch.cholesky_solve(b.unsqueeze(-1) if b.dim() == 1 else b, factor).view_as(b)


def _moments(model: BlockModel, batches: Sequence[Batch], span: Span) -> Iterator[tuple[Tensor, ...]]:
    """Of the tokens of each batch, in fp64 (tokens, d): what the map acts on, the change of the stream by the span and, where there is
    one, the gate."""
    start, length = span
    last, block = start + length - 1, model.blocks[start - 1]
    bare = block.with_weights({role: t for role, t in block.weights.items() if role != "receptance"})  # no gate behind its ffn
    for batch in batches:
        ids, lengths = batch.ids.to(model.device), batch.lengths.to(model.device)
        real, seen = counted(ids, lengths, True), dict[int, Parts]()

        def tap(i: int, parts: Parts, seen: dict[int, Parts] = seen) -> None:
            if i in (start - 1, last):
                seen[i] = parts

        model.stream(ids, lengths=lengths, tap=tap)
        before = seen[start - 1]
        found = [before.delta_ffn, seen[last].x_out - before.x_out]
        if "receptance" in block.weights:
            ctx: Any = model.begin(ids, lengths=lengths)[1]
            found = [bare.ffn(before.x_mid, ctx)[0], found[1], cast(RwkvBlock, block).gate(before.x_mid, ctx)]
        yield tuple(t[real].double() for t in found)


LAST = ("down", "down_bias", "expert_down", "shared_down")  # roles whose rows are channels of what an ffn gives


def fold(model: BlockModel, span: Span, t: Tensor) -> BlockModel:
    """The model without a span, the map `t` (d, d) behind the down projection of the ffn before it. All other weights are shared."""
    start, length = span
    block = model.blocks[start - 1]
    folded = {role: (t.mT @ w.double()).to(w.dtype) for role, w in block.weights.items() if role in LAST}
    kept = [model.blocks[i] for i in remaining(model.spec, range(start, start + length))]
    kept[start - 1] = block.with_weights(block.weights | folded)
    return model.with_blocks(kept)


def counts(model: BlockModel) -> Sequence[int]:
    """How many blocks can go: block 0 stays, for its ffn takes the map."""
    return range(1, len(model.blocks))


def prune(model: BlockModel, batches: Sequence[Batch], level: Level) -> BlockModel:
    span = straightest(model, batches, int(level))
    return fold(model, span, fit(model, batches, span))


def lacks(model: BlockModel) -> str:
    """The map lies behind the down projection of an ffn, which has to be the last thing in front of the stream."""
    direct = all(b.spec.has_ffn and "ffn_post_norm" not in b.weights and getattr(b, "residual", None) is None for b in model.blocks)
    return "" if direct else "an ffn in each block, and neither a norm nor a factor behind it"


ABOUT = {"fitted": "all tokens"}  # runs before it left the first of each document out
LINEAR = Method("linear replacement", "2505.02819", prune, counts, without_last, stock=True, lacks=lacks, about=ABOUT)
