"""The public suite that every adapter passes, in the spirit of scikit-learn's `parametrize_with_checks`.

    @parametrize_with_checks({"tiny": lambda: load("folder-of-a-tiny-model", dtype="float32")})
    def test_contract(check):
        check()

A check takes a float32 model with a context of at least `TIME` tokens and at least two blocks, and raises
AssertionError. Tiny models with random weights are enough, and better than trained ones: nothing in them is near zero.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from adapters.ablation import KEEP, Ablation, Action
from adapters.base import Advance, BlockModel, BlockPast, BlockSpec, Context, MixerOutput, Parts, Past, Tap, WrappedBlock
from adapters.errors import StrataError

TIME = 37  # tokens of the longest row; no multiple of anything
LENGTHS = (TIME, 11, 20)
CUTS = (17, 3, 19)  # where each row is cut in two
TOLERANCE = 2e-5  # of max error / standard deviation


def assert_close(found: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    """Largest error over the standard deviation of what is expected; the measure of every parity test."""
    assert found.shape == expected.shape, f"shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
    error = (found - expected).abs().max() / expected.float().std()
    assert error <= tolerance, f"max error / std is {error:.2e}, allowed {tolerance:.0e}"


@dataclass(eq=False)
class Recorder(WrappedBlock):
    """Notes how many rows go through the mixer and the ffn of a block."""

    mixed: list[int] = field(default_factory=list)  # rows of each call
    fed: list[int] = field(default_factory=list)

    def mix(self, x: Tensor, ctx: Any, past: Any = None) -> MixerOutput:
        self.mixed.append(x.shape[0])
        return super().mix(x, ctx, past)

    def ffn(self, x: Tensor, ctx: Any, past: Any = None) -> tuple[Tensor, Past | None]:
        self.fed.append(x.shape[0])
        return super().ffn(x, ctx, past)


def check_shapes(model: BlockModel) -> None:
    """Logits, stream and spec agree."""
    spec, ids = model.spec, _ids(model)
    assert model.run(ids).shape == (*ids.shape, spec.vocab_size)
    assert model.stream(ids).shape == (*ids.shape, spec.d_model)
    assert spec.blocks == tuple(block.spec for block in model.blocks)
    assert spec.max_len >= TIME, f"these checks need a context of {TIME} tokens"


def check_run_is_stream_and_logits(model: BlockModel) -> None:
    ids = _ids(model)
    assert torch.equal(model.run(ids), model.logits(model.stream(ids)))


def check_repeatable(model: BlockModel) -> None:
    """A forward leaves nothing behind: the second one gives the same bits, with a shorter text in between."""
    ids = _ids(model)
    first = model.run(ids)
    model.run(ids[:1, :5])
    assert torch.equal(model.run(ids), first)


def check_causality(model: BlockModel) -> None:
    """A token changes the logits at its own place and later, never earlier."""
    ids, at = _ids(model), TIME // 2
    changed = ids.clone()
    changed[:, at:] = (ids[:, at:] + 1) % model.spec.vocab_size
    a, b = model.run(ids), model.run(changed)
    assert_close(b[:, :at], a[:, :at])
    for later in (at, TIME - 1):
        assert (a[:, later] - b[:, later]).abs().amax(-1).min() > TOLERANCE, f"token {at} has no effect on the logits at {later}"


def check_rows_are_independent(model: BlockModel) -> None:
    ids = _ids(model)
    together = model.run(ids)
    for row in range(len(ids)):
        assert_close(model.run(ids[row : row + 1]), together[row : row + 1])
    assert_close(model.run(ids.flip(0)), together.flip(0))


def check_padding(model: BlockModel) -> None:
    """Right padding, whatever stands in it, changes nothing on real tokens."""
    ids, lengths = _ids(model), torch.tensor(LENGTHS, device=model.device)
    for filler in (0, model.spec.vocab_size - 1):
        padding = torch.arange(TIME, device=model.device) >= lengths[:, None]
        padded = model.run(ids.masked_fill(padding, filler), lengths=lengths)
        for row, length in enumerate(LENGTHS):
            assert_close(padded[row, :length], model.run(ids[row : row + 1, :length])[0])


def check_left_padding_is_refused(model: BlockModel) -> None:
    """A mask, and lengths that are no lengths, are an error in words; nothing is computed with them."""
    ids = _ids(model)
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
    """What a tap sees adds up, from the embedding to the stream, and z projects to delta_mix up to a constant bias."""
    ids, seen = _ids(model), list[Parts]()
    x = model.stream(ids, tap=lambda i, parts: seen.append(parts))
    assert len(seen) == len(model.blocks)
    before = model.begin(ids)[0]
    for block, parts in zip(model.blocks, seen, strict=True):
        assert torch.equal(parts.x_in, before)
        assert_close(parts.x_in + parts.delta_mix, parts.x_mid)
        assert_close(parts.x_mid + parts.delta_ffn, parts.x_out)
        assert (parts.z is None) == (block.spec.n_heads is None)
        if parts.z is not None:
            assert parts.z.shape == (*ids.shape, block.spec.n_heads, block.spec.head_dim)
            _assert_constant(parts.delta_mix - block.project(parts.z), parts.delta_mix)
        before = parts.x_out
    assert torch.equal(before, x)


def check_heads(model: BlockModel) -> None:
    """Taking heads out is the projection of z without them; taking all out leaves the bias, nothing without one."""
    x, ctx = model.begin(_ids(model))
    for i, block in enumerate(model.blocks):
        dense = _parts(model.advance(i, x, ctx, [(0, KEEP)]))
        if block.spec.n_heads is None or dense.z is None:
            _assert_refuses_heads(model, i, x, ctx)
            continue
        bias = dense.delta_mix - block.project(dense.z)
        everything = range(block.spec.n_heads)
        for out in ([0], [block.spec.n_heads - 1], list(everything)[::2], list(everything)):
            without = dense.z.clone()
            without[..., out, :] = 0
            found = _parts(model.advance(i, x, ctx, [(0, Action(heads=frozenset(out)))])).delta_mix
            _assert_near(found, block.project(without) + bias, dense.delta_mix)
        skipped = _parts(model.advance(i, x, ctx, [(0, Action(mixer=False))]))
        assert torch.equal(skipped.x_mid, x)
        _assert_near(found - bias, skipped.delta_mix, dense.delta_mix)
        x = dense.x_out


def check_ablated_block_is_deleted_block(model: BlockModel) -> None:
    ids = _ids(model)
    for i in range(len(model.blocks)):
        smaller = model.with_blocks([b for j, b in enumerate(model.blocks) if j != i])
        assert_close(model.run(ids, Ablation(blocks=frozenset({i}))), smaller.run(ids))
        assert smaller.spec.n_params == model.spec.n_params - model.spec.blocks[i].n_params


def check_edges(model: BlockModel) -> None:
    """Many edges in one call give what each gives alone."""
    x, ctx = _variants(model)
    for i in range(len(model.blocks)):
        edges = _edges(model.spec.blocks[i])
        together = model.advance(i, x, ctx, edges).x.unflatten(0, (-1, ctx.documents))
        for (variant, action), found in zip(edges, together, strict=True):
            alone = model.advance(i, x.unflatten(0, (-1, ctx.documents))[variant], ctx, [(0, action)])
            assert_close(found, alone.x)


def check_distinct_rows(model: BlockModel) -> None:
    """The mixer sees each variant once, the ffn each pair of variant and mixer action once; what is skipped is not run."""
    x, ctx = _variants(model)
    for i, block in enumerate(model.blocks):
        recorder = Recorder(block)
        recording = model.with_blocks([*model.blocks[:i], recorder, *model.blocks[i + 1 :]])
        edges = _edges(block.spec)
        recording.advance(i, x, ctx, edges)
        pairs = {(v, action.mixer, action.heads) for v, action in edges if action.ffn}
        assert recorder.mixed == [ctx.documents * len({v for v, action in edges if action.mixer})]
        assert recorder.fed == [ctx.documents * len(pairs)]
        recording.advance(i, x, ctx, [(0, Action(mixer=False, ffn=False))])
        assert (len(recorder.mixed), len(recorder.fed)) == (1, 1), "a block that is out was run"


def check_cut_in_two(model: BlockModel) -> None:
    """A text cut at any place and continued through its past gives the logits of the whole."""
    ids, cuts, lengths = _ids(model), torch.tensor(CUTS), torch.tensor(LENGTHS)
    whole = model.run(ids)
    first, past = _continue(model, _shift(ids, torch.zeros_like(cuts)), cuts)
    middle = (lengths - cuts) // 2 + 1
    second, past = _continue(model, _shift(ids, cuts), middle, cuts, past)
    third, _ = _continue(model, _shift(ids, cuts + middle), lengths - cuts - middle, cuts + middle, past)
    for row, (cut, mid, length) in enumerate(zip(CUTS, middle.tolist(), LENGTHS, strict=True)):
        pieces = (first[row, :cut], second[row, :mid], third[row, : length - cut - mid])
        assert_close(torch.cat(pieces), whole[row, :length])


def check_past_of_edges(model: BlockModel) -> None:
    """The past of a call continues with the same edges."""
    x, ctx = _variants(model)
    edges, cut = _edges(model.spec.blocks[1]), TIME // 2
    whole = model.advance(1, x, ctx, edges).x
    ids = _ids(model)
    _, head = model.begin(ids[:, :cut])
    _, tail = model.begin(ids[:, cut:], start=torch.full((len(ids),), cut, device=model.device))
    first = model.advance(1, x[:, :cut], head, edges)
    second = model.advance(1, x[:, cut:], tail, edges, first.past)
    assert_close(torch.cat([first.x, second.x], 1), whole)


def check_past_rows(model: BlockModel) -> None:
    """`Past.rows` moves and repeats rows: a prompt read once serves many continuations."""
    ids, cuts = _ids(model), torch.tensor(CUTS)
    index = torch.tensor([2, 0, 2, 1])
    _, past = _continue(model, _shift(ids, torch.zeros_like(cuts)), cuts)
    moved = [BlockPast(*(p.rows(index.to(model.device)) if p is not None else None for p in block)) for block in past]
    time = min(n - cut for n, cut in zip(LENGTHS, CUTS, strict=True))
    found, _ = _continue(model, _shift(ids, cuts)[index.to(model.device), :time], None, cuts[index], moved)
    whole = model.run(ids)
    for row, source in enumerate(index.tolist()):
        assert_close(found[row], whole[source, CUTS[source] : CUTS[source] + time])


def check_gradients(model: BlockModel) -> None:
    """Gradients reach every weight and the z of every block, and are the slopes of the loss."""
    model = cast(model, torch.float32)
    ids, generator = _ids(model), torch.Generator().manual_seed(1)
    tables = [model.weights, *(block.weights for block in model.blocks)]
    tensors = {f"{n - 1}.{role}": t.requires_grad_() for n, table in enumerate(tables) for role, t in table.items()}
    parts: list[Parts] = []
    loss = _loss(model, ids, tap=lambda i, p: parts.append(p))
    watched = tensors | {f"z of block {i}": p.z for i, p in enumerate(parts) if p.z is not None}
    gradients = dict(zip(watched, torch.autograd.grad(loss, list(watched.values()), allow_unused=True), strict=True))
    unused = [name for name, g in gradients.items() if g is None or not torch.isfinite(g).all()]
    assert not unused, f"no finite gradient reaches {', '.join(unused)}"

    step = 1e-3
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


def check_bfloat16(model: BlockModel) -> None:
    """bfloat16 gives finite logits near those of float32."""
    ids, small = _ids(model), cast(model, torch.bfloat16)
    exact, found = model.run(ids), small.run(ids)
    assert small.dtype == found.dtype == torch.bfloat16
    assert torch.isfinite(found).all()
    error = (found.float() - exact).pow(2).mean().sqrt() / exact.std()
    assert error < 0.1, f"root mean square error / std is {error:.2f}"


CHECKS: tuple[Callable[[BlockModel], None], ...] = (
    check_shapes,
    check_run_is_stream_and_logits,
    check_repeatable,
    check_causality,
    check_rows_are_independent,
    check_padding,
    check_left_padding_is_refused,
    check_parts,
    check_heads,
    check_ablated_block_is_deleted_block,
    check_edges,
    check_distinct_rows,
    check_cut_in_two,
    check_past_of_edges,
    check_past_rows,
    check_gradients,
    check_bfloat16,
)


def parametrize_with_checks(models: Mapping[str, Callable[[], BlockModel]]) -> Any:
    """A pytest mark: one case, a call without arguments, for each check and model. Models are made when first needed."""
    import pytest

    def case(make: Callable[[], BlockModel], check: Callable[[BlockModel], None]) -> Callable[[], None]:
        return lambda: check(make())

    cached = {name: functools.cache(make) for name, make in models.items()}
    cases = [pytest.param(case(make, c), id=f"{name}-{c.__name__}") for name, make in cached.items() for c in CHECKS]
    return pytest.mark.parametrize("check", cases)


def cast(model: BlockModel, dtype: torch.dtype) -> BlockModel:
    """An independent copy in another dtype, without the tokenizer."""
    other = copy.copy(model)
    other.tokenizer = None
    other = copy.deepcopy(other)
    for table in (other.weights, *(block.weights for block in other.blocks)):
        table.update({role: tensor.to(dtype) for role, tensor in table.items()})
    return other


def _ids(model: BlockModel) -> Tensor:
    """(3, TIME) random tokens, the same for every check."""
    return torch.randint(model.spec.vocab_size, (len(LENGTHS), TIME), generator=torch.Generator().manual_seed(0)).to(model.device)


def _variants(model: BlockModel) -> tuple[Tensor, Context]:
    """Three different streams (3 * documents, TIME, d) and their context."""
    x, ctx = model.begin(_ids(model))
    return torch.cat([x, x.flip(0) * 0.5, x.roll(1, -1)]), ctx


def _edges(spec: BlockSpec) -> list[tuple[int, Action]]:
    """Edges with repeats, in an order that no table would have."""
    heads = Action(heads=frozenset({0})) if spec.n_heads else KEEP
    return [
        (2, Action(mixer=False)),
        (0, KEEP),
        (0, heads),
        (0, heads._replace(ffn=False)),
        (0, KEEP),
        (1, Action(ffn=False)),
        (1, KEEP),
        (2, Action(mixer=False, ffn=False)),
        (2, Action(mixer=False)),
    ]


def _parts(step: Advance) -> Parts:
    assert step.parts is not None, "a call with one edge has parts"
    return step.parts


def _continue(
    model: BlockModel, ids: Tensor, lengths: Tensor | None, start: Tensor | None = None, past: Sequence[BlockPast] | None = None
) -> tuple[Tensor, list[BlockPast]]:
    """Logits of `ids` behind `past`, and the new past of every block."""
    lengths, start = (None if t is None else t.to(model.device) for t in (lengths, start))
    x, ctx = model.begin(ids if lengths is None else ids[:, : int(lengths.max())], lengths=lengths, start=start)
    after = []
    for i in range(len(model.blocks)):
        step = model.advance(i, x, ctx, [(0, KEEP)], past[i] if past else None)
        x = step.x
        after.append(step.past)
    return model.logits(x), after


def _shift(ids: Tensor, by: Tensor) -> Tensor:
    """Row r from its token `by[r]` on; what runs over the end is padding."""
    return torch.stack([row.roll(-int(n)) for row, n in zip(ids, by, strict=True)])


def _loss(model: BlockModel, ids: Tensor, tap: Tap | None = None) -> Tensor:
    logits = model.run(ids, tap=tap)[:, :-1].flatten(0, 1)
    return torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten())


def _assert_near(found: Tensor, expected: Tensor, scale: Tensor) -> None:
    """As `assert_close`, where what is expected may be zero."""
    error = (found - expected).abs().max() / scale.std()
    assert error <= TOLERANCE, f"max error / std is {error:.2e}"


def _assert_constant(bias: Tensor, scale: Tensor) -> None:
    _assert_near(bias, bias[:1, :1].expand_as(bias), scale)


def _assert_refuses_heads(model: BlockModel, i: int, x: Tensor, ctx: Context) -> None:
    """An architecture without heads says so, and never invents any."""
    for attempt in (
        lambda: Ablation(heads=frozenset({(i, 0)})).check(model.spec),
        lambda: model.advance(i, x, ctx, [(0, Action(heads=frozenset({0})))]),
    ):
        try:
            attempt()
        except StrataError:
            continue
        raise AssertionError("heads were taken out of a block that has none")
