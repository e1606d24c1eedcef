"""Checks of single heads: their shares, their gradients, and blocks that are left with fewer of them."""

from __future__ import annotations

import torch

from adapters.action import KEEP, Action
from adapters.base import BlockModel
from adapters.block import Context, Parts
from adapters.contract.tools import assert_close, assert_near, cast, parts_of, token_ids
from adapters.errors import StrataError
from adapters.heads import gradient_of_heads, head_share


def check_head_shares(model: BlockModel) -> None:
    """What a head adds is what is missing without it, as `advance` takes it out."""
    x, ctx = model.begin(token_ids(model))
    for i, block in enumerate(model.blocks):
        dense = parts_of(model.advance(i, x, ctx, [(0, KEEP)]))
        for head in {0, block.spec.n_heads - 1} if block.spec.n_heads else ():
            without = parts_of(model.advance(i, x, ctx, [(0, Action(heads=frozenset({head})))]))
            assert_near(head_share(block, dense, head), dense.delta_mix - without.delta_mix, dense.delta_mix)
        x = dense.x_out


def check_head_gradients(model: BlockModel) -> None:
    """The gradient that reaches z is the one that comes from x_mid, through what closes the mixer and the projection."""
    model = cast(model, torch.promote_types(model.dtype, torch.float32))
    for table in (model.weights, *(block.weights for block in model.blocks)):
        for tensor in table.values():
            tensor.requires_grad_()
    parts: list[Parts] = []
    x = model.stream(token_ids(model), tap=lambda i, p: parts.append(p))
    loss = (model.logits(x).double() ** 2).mean()
    for block, p in zip(model.blocks, parts, strict=True):
        if p.z is not None:
            expected, behind = torch.autograd.grad(loss, [p.z, p.x_mid], retain_graph=True)
            assert_close(gradient_of_heads(block, p, behind), expected)


def check_kept_heads(model: BlockModel) -> None:
    """A block with fewer heads does what the block does when the others are out, in one piece and in two, or says that it cannot be."""
    ids = token_ids(model)
    x, ctx = model.begin(ids)
    for i, block in enumerate(model.blocks):
        n = block.spec.n_heads or 0
        for out in ([0], [n - 1], list(range(n))[1:], list(range(n))[::2]):
            kept = [head for head in range(n) if head not in out]
            if not out or not kept:
                continue
            try:
                narrow = block.keep_heads(kept)
            except StrataError:
                continue
            expected = parts_of(model.advance(i, x, ctx, [(0, Action(heads=frozenset(out)))])).delta_mix
            assert narrow.spec.n_heads == len(kept)
            assert narrow.spec.n_params == sum(t.numel() for t in narrow.weights.values())
            smaller = model.with_blocks([*model.blocks[:i], narrow, *model.blocks[i + 1 :]])
            assert_near(parts_of(smaller.advance(i, x, ctx, [(0, KEEP)])).delta_mix, expected, expected)
            assert_near(_in_two(smaller, i, x, ctx), expected, expected)
        x = parts_of(model.advance(i, x, ctx, [(0, KEEP)])).x_out


def _in_two(model: BlockModel, i: int, x: torch.Tensor, ctx: Context) -> torch.Tensor:
    """delta_mix of block `i` on the two halves of a stream, one after the other."""
    ids = token_ids(model)
    cut = ids.shape[1] // 2
    _, head = model.begin(ids[:, :cut])
    _, tail = model.begin(ids[:, cut:], start=torch.full((len(ids),), cut, device=model.device))
    first = model.advance(i, x[:, :cut], head, [(0, KEEP)])
    second = model.advance(i, x[:, cut:], tail, [(0, KEEP)], first.past)
    return torch.cat([parts_of(first).delta_mix, parts_of(second).delta_mix], 1)
