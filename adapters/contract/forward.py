"""Checks of whole forwards: shapes, rows, padding, parts, ablations, gradients and precision."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adapters.ablation import Ablation
from adapters.action import KEEP, Action
from adapters.base import BlockModel, Tap
from adapters.block import Block, Context, Parts
from adapters.contract.tools import (
    FLIPPED_SOMEWHERE,
    LENGTHS,
    ROUTING_FLIPS,
    TIME,
    TOLERANCE,
    assert_close,
    assert_near,
    cast,
    parts_of,
    token_ids,
)
from adapters.errors import StrataError
from adapters.experts import experts_of


def check_shapes(model: BlockModel) -> None:
    """Logits, stream and spec agree."""
    spec, ids = model.spec, token_ids(model)
    assert model.run(ids).shape == (*ids.shape, spec.vocab_size)
    assert model.stream(ids).shape == (*ids.shape, spec.d_model)
    assert spec.blocks == tuple(block.spec for block in model.blocks)
    assert spec.max_len >= TIME, f"these checks need a context of {TIME} tokens"


def check_run_is_stream_and_logits(model: BlockModel) -> None:
    ids = token_ids(model)
    assert torch.equal(model.run(ids), model.logits(model.stream(ids)))


def check_repeatable(model: BlockModel) -> None:
    """A forward leaves nothing behind: the second one gives the same bits, with a shorter text in between."""
    ids = token_ids(model)
    first = model.run(ids)
    model.run(ids[:1, :5])
    assert torch.equal(model.run(ids), first)


def check_causality(model: BlockModel) -> None:
    """A token changes the logits at its own place and later, never earlier."""
    ids, at = token_ids(model), TIME // 2
    changed = ids.clone()
    changed[:, at:] = (ids[:, at:] + 1) % model.spec.vocab_size
    a, b = model.run(ids), model.run(changed)
    assert_close(b[:, :at], a[:, :at])
    for later in (at, TIME - 1):
        assert (a[:, later] - b[:, later]).abs().amax(-1).min() > TOLERANCE, f"token {at} has no effect on the logits at {later}"


def check_rows_are_independent(model: BlockModel) -> None:
    ids = token_ids(model)
    together = model.run(ids)
    for row in range(len(ids)):
        assert_close(model.run(ids[row : row + 1]), together[row : row + 1])
    assert_close(model.run(ids.flip(0)), together.flip(0))


def check_padding(model: BlockModel) -> None:
    """Right padding, whatever stands in it, changes nothing on real tokens."""
    ids, lengths = token_ids(model), torch.tensor(LENGTHS, device=model.device)
    for filler in (0, model.spec.vocab_size - 1):
        padding = torch.arange(TIME, device=model.device) >= lengths[:, None]
        padded = model.run(ids.masked_fill(padding, filler), lengths=lengths)
        for row, length in enumerate(LENGTHS):
            assert_close(padded[row, :length], model.run(ids[row : row + 1, :length])[0])


def check_left_padding_is_refused(model: BlockModel) -> None:
    """A mask, and lengths that are no lengths, are an error in words; nothing is computed with them."""
    ids = token_ids(model)
    real = torch.ones_like(ids)
    real[0, :3] = 0
    for lengths, says in ((real, "padded on the left"), (torch.ones_like(ids), "mask"), (real[:2, 0], "fit"), (real[:, 0] + TIME, "fit")):
        message = ""
        try:
            model.begin(ids, lengths=lengths)
        except StrataError as error:
            message = str(error)
        assert says in message, f"lengths of the shape {tuple(lengths.shape)}: {message or 'taken'}, expected an error with {says!r}"


def check_parts(model: BlockModel) -> None:
    """What a tap sees adds up, from the embedding to the stream, and z projects to what is closed to delta_mix up to a constant bias."""
    ids, seen = token_ids(model), list[Parts]()
    x = model.stream(ids, tap=lambda i, parts: seen.append(parts))
    assert len(seen) == len(model.blocks)
    before = model.begin(ids)[0]
    for block, parts in zip(model.blocks, seen, strict=True):
        assert torch.equal(parts.x_in, before)
        assert_close(parts.x_in + parts.delta_mix, parts.x_mid)
        assert_close(parts.x_mid + parts.delta_ffn, parts.x_out)
        assert (parts.z is None) == (block.spec.n_heads is None)
        assert (parts.open is not None) == block.spec.has_mixer
        if parts.open is not None:
            assert_close(block.close(parts.open), parts.delta_mix)
        if parts.z is not None and parts.open is not None:
            assert parts.z.shape == (*ids.shape, block.spec.n_heads, block.spec.head_dim)
            _assert_constant(parts.open - block.project(parts.z), parts.open)
        before = parts.x_out
    assert torch.equal(before, x)


def check_heads(model: BlockModel) -> None:
    """Taking heads out is the projection of z without them, closed; taking all out leaves the bias, nothing without one."""
    x, ctx = model.begin(token_ids(model))
    for i, block in enumerate(model.blocks):
        dense = parts_of(model.advance(i, x, ctx, [(0, KEEP)]))
        if block.spec.n_heads is None or dense.z is None or dense.open is None:
            _assert_refuses_heads(model, i, x, ctx)
            continue
        bias = dense.open - block.project(dense.z)
        everything = range(block.spec.n_heads)
        for out in ([0], [block.spec.n_heads - 1], list(everything)[::2], list(everything)):
            without = dense.z.clone()
            without[..., out, :] = 0
            found = parts_of(model.advance(i, x, ctx, [(0, Action(heads=frozenset(out)))])).delta_mix
            assert_near(found, block.close(block.project(without) + bias), dense.delta_mix)
        skipped = parts_of(model.advance(i, x, ctx, [(0, Action(mixer=False))]))
        assert torch.equal(skipped.x_mid, x)
        assert_near(found - block.close(bias), skipped.delta_mix, dense.delta_mix)
        x = dense.x_out


def _assert_constant(bias: Tensor, scale: Tensor) -> None:
    assert_near(bias, bias[:1, :1].expand_as(bias), scale)


def _assert_refuses_heads(model: BlockModel, i: int, x: Tensor, ctx: Context) -> None:
    """An architecture without heads says so, and never invents any."""
    attempts: list[Callable[[], object]] = [lambda: Ablation(heads=frozenset({(i, 0)})).check(model.spec)]
    if model.blocks[i].spec.has_mixer:
        attempts.append(lambda: model.advance(i, x, ctx, [(0, Action(heads=frozenset({0})))]))
    for attempt in attempts:
        try:
            attempt()
        except StrataError:
            continue
        raise AssertionError("heads were taken out of a block that has none")


def check_ablated_block_is_deleted_block(model: BlockModel) -> None:
    ids = token_ids(model)
    for i in range(len(model.blocks)):
        smaller = model.with_blocks([b for j, b in enumerate(model.blocks) if j != i])
        assert_close(model.run(ids, Ablation(blocks=frozenset({i}))), smaller.run(ids))
        assert smaller.spec.n_params == model.spec.n_params - model.spec.blocks[i].n_params


def check_gradients(model: BlockModel) -> None:
    """Gradients reach every weight and the z of every block, and are the slopes of the loss."""
    model = cast(model, torch.float64)
    ids, generator = token_ids(model), torch.Generator().manual_seed(1)
    tables = [model.weights, *(block.weights for block in model.blocks)]
    tensors = {f"{n - 1}.{role}": t.requires_grad_() for n, table in enumerate(tables) for role, t in table.items()}
    parts: list[Parts] = []
    loss = _loss(model, ids, tap=lambda i, p: parts.append(p))
    watched = tensors | {f"z of block {i}": p.z for i, p in enumerate(parts) if p.z is not None}
    gradients = dict(zip(watched, torch.autograd.grad(loss, list(watched.values()), allow_unused=True), strict=True))
    unused = [name for name, g in gradients.items() if g is None or not torch.isfinite(g).all()]
    assert not unused, f"no finite gradient reaches {', '.join(unused)}"

    step = 1e-5  # small, for ReLU has a kink
    direction = {name: torch.randn(t.shape, generator=generator).to(t) * t.detach().std().nan_to_num(1.0) for name, t in tensors.items()}
    slope = sum(float((gradients[name] * direction[name]).sum()) for name in tensors)
    with torch.no_grad():
        losses = []
        for sign in (1, -2):  # one step forward, then one step back from where it began
            for name, tensor in tensors.items():
                tensor += sign * step * direction[name]
            losses.append(float(_loss(model, ids)))
    measured = (losses[0] - losses[1]) / (2 * step)
    assert abs(slope - measured) <= 0.02 * abs(measured) + 0.005, f"gradient says {slope:.4f}, the loss {measured:.4f}"


def _loss(model: BlockModel, ids: Tensor, tap: Tap | None = None) -> Tensor:
    logits = model.run(ids, tap=tap)[:, :-1].flatten(0, 1)
    return torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten())


def check_bfloat16(model: BlockModel) -> None:
    """bfloat16 gives finite logits near those of float32, but for tokens that some block sends to other experts.

    Of equal inputs of one block these are few; from block to block they add up, up to FLIPPED_SOMEWHERE.
    """
    ids, small = token_ids(model), cast(model, torch.bfloat16)
    (exact, wide), (found, narrow) = (_run_and_ffn_inputs(one, ids) for one in (model, small))
    kept = torch.ones_like(ids, dtype=torch.bool)
    for ours, theirs, x, y in zip(model.blocks, small.blocks, wide, narrow, strict=True):
        if ours.spec.n_experts:
            flips = float(_sent_elsewhere(ours, theirs, x, x.bfloat16()).float().mean())
            assert flips <= ROUTING_FLIPS, f"{flips:.1%} of the tokens are sent to other experts"
            kept &= ~_sent_elsewhere(ours, theirs, x, y)
    assert small.dtype == found.dtype == torch.bfloat16
    assert torch.isfinite(found).all()
    flipped = float((~kept).float().mean())
    assert flipped < FLIPPED_SOMEWHERE, f"{flipped:.1%} of the tokens are sent to other experts in some block"
    error = (found.float() - exact)[kept].pow(2).mean().sqrt() / exact.std()
    assert error < 0.1, f"root mean square error / std is {error:.2f}"


def _run_and_ffn_inputs(model: BlockModel, ids: Tensor) -> tuple[Tensor, list[Tensor]]:
    seen: list[Parts] = []
    logits = model.run(ids, tap=lambda i, parts: seen.append(parts))
    return logits, [p.x_in if spec.parallel else p.x_mid for p, spec in zip(seen, model.spec.blocks, strict=True)]


def _sent_elsewhere(ours: Block, theirs: Block, x: Tensor, y: Tensor) -> Tensor:
    """Tokens (D, T) that two blocks send to different experts, from their ffns' inputs."""
    a, b = (experts_of(block).route(stream).experts.sort(-1).values for block, stream in ((ours, x), (theirs, y)))
    return (a != b).any(-1)
