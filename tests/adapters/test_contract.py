"""Each check of the contract suite fails on an adapter that is wrong in the way the check is for."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from adapters import BlockModel, BlockSpec, contract, load
from adapters.attention import KeyValuePast
from adapters.base import Advance
from adapters.block import BlockPast, Context, MixerOutput
from adapters.checkpoints.layout import Layout, Slot
from adapters.contract import CHECKS, Recorder, check_spec
from tests.reference.hf import tiny


@pytest.fixture(scope="module")
def good() -> BlockModel:
    with tempfile.TemporaryDirectory() as folder:
        tiny("qwen2").save_pretrained(folder)
        return load(Path(folder), dtype="float32", device="cpu")


def changed(model: BlockModel, **methods: Callable) -> BlockModel:
    """A copy of the model with methods replaced by `f(model, old method, *args)`."""
    other = copy.copy(model)
    for name, method in methods.items():
        old = getattr(model, name)
        setattr(other, name, lambda *args, _m=method, _old=old, **kwargs: _m(other, _old, *args, **kwargs))
    return other


class Wrong(Recorder):
    """A block with one of its methods replaced by `f(block, *args)`."""

    def __init__(self, block, name: str, method: Callable) -> None:
        super().__init__(block)
        setattr(self, name, partial(method, block))


def changed_blocks(model: BlockModel, name: str, method: Callable) -> BlockModel:
    return model.with_blocks([Wrong(b, name, method) for b in model.blocks])


def sees_ahead(block, x: Tensor, ctx: Context, past=None):
    out = block.mix(x, ctx, past)
    return out._replace(delta=out.delta + 1e-3 * out.delta.flip(1))


def sees_other_rows(block, x: Tensor, ctx: Context, past=None):
    out = block.mix(x, ctx, past)
    return out._replace(delta=out.delta + 1e-3 * out.delta.mean(0))


def sees_padding(model: BlockModel, begin: Callable, ids: Tensor, *, lengths=None, start=None):
    x, ctx = begin(ids, lengths=lengths, start=start)
    return x + 1e-3 * x[:, -1:], ctx


def takes_any_lengths(model: BlockModel, begin: Callable, ids: Tensor, *, lengths=None, start=None):
    return begin(ids, lengths=lengths if lengths is None or lengths.shape == (len(ids),) else lengths.sum(1), start=start)


def drifts(model: BlockModel, logits: Callable, x: Tensor) -> Tensor:
    model.calls = getattr(model, "calls", 0) + 1
    return logits(x) + 1e-6 * model.calls


def with_a_bias_less(block, z: Tensor, heads=None) -> Tensor:
    return block.project(z, heads) * 1.001


def with_other_heads(block, z: Tensor, heads=None) -> Tensor:
    return block.project(z, heads if heads is None else [(h + 1) % block.spec.n_heads for h in heads])


def twice(block, x: Tensor, ctx: Context, past=None):
    return block.mix(torch.cat([x, x]), ctx, past)._replace(delta=block.mix(x, ctx, past).delta)


def forgets(block, x: Tensor, ctx: Context, past=None) -> MixerOutput:
    return block.mix(x, ctx, None)


def last_of_padding(block, x: Tensor, ctx: Context, past=None) -> MixerOutput:
    return block.mix(x, replace(ctx, lengths=None), past)


def without_start(model: BlockModel, begin: Callable, ids: Tensor, *, lengths=None, start=None):
    return begin(ids, lengths=lengths)


class OwnRows(KeyValuePast):
    def rows(self, index: Tensor) -> KeyValuePast:
        return KeyValuePast(self.k[:1].expand(len(index), -1, -1, -1), self.v[index], self.lengths[index])


def rows_of_others(block, x: Tensor, ctx: Context, past=None) -> MixerOutput:
    out = block.mix(x, ctx, past)
    return out._replace(past=OwnRows(out.past.k, out.past.v, out.past.lengths))


def detached(block, x: Tensor, ctx: Context, past=None):
    delta, after = block.ffn(x, ctx, past)
    return delta.detach(), after


def shows_a_copy_of_z(block, x: Tensor, ctx: Context, past=None) -> MixerOutput:
    out = block.mix(x, ctx, past)
    return out._replace(z=out.z * 1)


def half_of_gradient(block, x: Tensor, ctx: Context, past=None):
    delta, after = block.ffn(x, ctx, past)
    return delta / 2 + delta.detach() / 2, after


def overflows(block, x: Tensor, ctx: Context, past=None):
    delta, after = block.ffn(x, ctx, past)
    return (delta * float("inf") if x.dtype == torch.bfloat16 else delta), after


def edge_by_edge(model: BlockModel, advance: Callable, i: int, x: Tensor, ctx: Context, edges, past=None) -> Advance:
    """Right, and wasteful."""
    xs = x.unflatten(0, (-1, ctx.documents))
    steps = [BlockModel.advance(model, i, xs[v], ctx, [(0, a)], past) for v, a in edges]
    return Advance(torch.cat([s.x for s in steps]), steps[0].parts if len(steps) == 1 else None, steps[0].past)


def in_another_order(model: BlockModel, advance: Callable, i: int, x: Tensor, ctx: Context, edges, past=None) -> Advance:
    return BlockModel.advance(model, i, x, ctx, sorted(edges, key=lambda e: e[0]), past)


def past_of_ffn_only(model: BlockModel, advance: Callable, i: int, x: Tensor, ctx: Context, edges, past=None) -> Advance:
    step = BlockModel.advance(model, i, x, ctx, edges, past)
    return step._replace(past=BlockPast(None, step.past.ffn))


def deletes_the_next(model: BlockModel, with_blocks: Callable, blocks) -> BlockModel:
    return with_blocks([model.blocks[0], *blocks[1:]])


def with_specs(model: BlockModel, **numbers: object) -> BlockModel:
    return model.with_blocks([replace(block, spec=replace(block.spec, **numbers)) for block in model.blocks])


def adds_a_norm_behind(block, delta: Tensor) -> Tensor:
    return delta / (1 + delta.pow(2).mean(-1, keepdim=True)).sqrt()


def with_a_norm_that_nothing_knows_of(model: BlockModel) -> BlockModel:
    """Heads are not affine then, which the spec denies: their shares are taken for their projections."""
    return changed_blocks(model, "close", adds_a_norm_behind)


def with_a_gradient_cut(block, delta: Tensor) -> Tensor:
    """Right forwards; backwards, where a delta alone comes, it is another function."""
    return delta * 1.01 - delta.detach() * 0.01 if delta.requires_grad and delta.is_leaf else delta


def keeps_the_next(block, kept):
    n = block.spec.n_heads
    return block.keep_heads(sorted((head + 1) % n for head in kept))


def with_swapped_keys_and_values(model: BlockModel) -> BlockModel:
    """In one tensor, written in an order other than that of reading."""

    class Swapped(Layout):
        def write(self, weights, blocks):
            return super().write(weights, [b | {"k": b["v"], "v": b["k"]} for b in blocks])

    other = copy.copy(model)
    fused = {role: Slot("layers.{i}.qkv", ("q", "k", "v"), grouped=True) for role in "qkv"}
    groups = model.spec.blocks[0].n_kv_heads
    other.layout = Swapped(model=model.layout.model, block={**model.layout.block, **fused}, groups=groups)
    return other


MUTANTS: dict[str, tuple[Callable[[BlockModel], BlockModel], set[str]]] = {
    "logits-cut": (lambda m: changed(m, logits=lambda _, old, x: old(x)[..., 1:]), {"check_shapes"}),
    "other-groups": (lambda m: with_specs(m, n_kv_heads=m.spec.blocks[0].n_heads), {"check_spec"}),
    "other-logits": (lambda m: changed(m, run=lambda s, old, *a, **k: old(*a, **k) * 1.0001), {"check_run_is_stream_and_logits"}),
    "drifts": (lambda m: changed(m, logits=drifts), {"check_repeatable"}),
    "sees-ahead": (lambda m: changed_blocks(m, "mix", sees_ahead), {"check_causality"}),
    "sees-nothing": (lambda m: changed(m, logits=lambda _, old, x: old(x.detach() * 0 + 1)), {"check_causality"}),
    "sees-other-rows": (lambda m: changed_blocks(m, "mix", sees_other_rows), {"check_rows_are_independent"}),
    "sees-padding": (lambda m: changed(m, begin=sees_padding), {"check_padding", "check_causality"}),
    "left-padding": (lambda m: changed(m, begin=takes_any_lengths), {"check_left_padding_is_refused"}),
    "projects-more": (lambda m: changed_blocks(m, "project", with_a_bias_less), {"check_parts"}),
    "projects-other-heads": (lambda m: changed_blocks(m, "project", with_other_heads), {"check_heads"}),
    "closes-unseen": (with_a_norm_that_nothing_knows_of, {"check_head_shares"}),
    "cut-gradient": (lambda m: changed_blocks(m, "close", with_a_gradient_cut), {"check_head_gradients"}),
    "keeps-others": (lambda m: changed_blocks(m, "keep_heads", keeps_the_next), {"check_kept_heads"}),
    "swapped-in-files": (with_swapped_keys_and_values, {"check_files"}),
    "deletes-another": (lambda m: changed(m, with_blocks=deletes_the_next), {"check_ablated_block_is_deleted_block"}),
    "edge-order": (lambda m: changed(m, advance=in_another_order), {"check_edges"}),
    "edge-by-edge": (lambda m: changed(m, advance=edge_by_edge), {"check_distinct_rows"}),
    "forgets": (lambda m: changed_blocks(m, "mix", forgets), {"check_cut_in_two", "check_past_rows", "check_past_of_edges"}),
    "no-past": (lambda m: changed(m, advance=past_of_ffn_only), {"check_past_of_edges"}),
    "past-of-padding": (lambda m: changed_blocks(m, "mix", last_of_padding), {"check_cut_in_two", "check_past_rows"}),
    "no-start": (lambda m: changed(m, begin=without_start), {"check_cut_in_two", "check_past_of_edges"}),
    "rows-of-others": (lambda m: changed_blocks(m, "mix", rows_of_others), {"check_past_rows"}),
    "detached": (lambda m: changed_blocks(m, "ffn", detached), {"check_gradients"}),
    "copy-of-z": (lambda m: changed_blocks(m, "mix", shows_a_copy_of_z), {"check_gradients"}),
    "half-gradient": (lambda m: changed_blocks(m, "ffn", half_of_gradient), {"check_gradients"}),
    "overflows": (lambda m: changed_blocks(m, "ffn", overflows), {"check_bfloat16"}),
}


def failing(model: BlockModel) -> set[str]:
    failed = set()
    for check in CHECKS:
        try:
            check(model)
        except AssertionError:
            failed.add(check.__name__)
    return failed


@pytest.mark.parametrize("name", MUTANTS)
def test_wrong_adapters_are_caught(name: str, good: BlockModel) -> None:
    make, expected = MUTANTS[name]
    checks = {check.__name__: check for check in CHECKS}
    for check in expected:
        with pytest.raises((AssertionError, RuntimeError, IndexError, KeyError)):
            checks[check](make(good))


def test_the_unchanged_model_passes(good: BlockModel) -> None:
    assert failing(good) == set()
    assert failing(changed_blocks(good, "mix", lambda block, *args: block.mix(*args))) == set()  # nor is wrapping a fault


@pytest.mark.parametrize("number", [field.name for field in fields(BlockSpec) if field.name not in ("parallel", "scan")])
def test_every_number_of_a_block_is_checked(number: str, good: BlockModel) -> None:
    """What a scan holds is checked against memory (tests/analysis/engine/test_scan_memory.py)."""
    said = getattr(good.spec.blocks[0], number)
    with pytest.raises((AssertionError, RuntimeError)):
        check_spec(with_specs(good, **{number: not said if isinstance(said, bool) else said + 1}))


@pytest.mark.parametrize("number", ["n_params", "d_model", "vocab_size"])
def test_every_number_of_a_model_is_checked(number: str, good: BlockModel) -> None:
    wrong = copy.copy(good)
    wrong.spec = replace(good.spec, **{number: getattr(good.spec, number) + 1})
    with pytest.raises(AssertionError, match=f"{number}.* of the spec is "):
        check_spec(wrong)


def test_every_check_is_in_the_table_and_has_a_mutant() -> None:
    names = {name for name in vars(contract) if name.startswith("check_")}
    assert names == {check.__name__ for check in CHECKS}
    assert names == set().union(*(expected for _, expected in MUTANTS.values()))
