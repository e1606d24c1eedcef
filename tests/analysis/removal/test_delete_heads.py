"""A block whose heads are deleted does what the block does when they are zero; the numbers of its weights are counted."""

from __future__ import annotations

import itertools

import pytest
import torch

from adapters import Ablation, BlockModel, StrataError
from adapters.base import BlockModel as Model
from analysis.engine.ablations import single_ablations
from analysis.removal.delete_heads import delete_heads
from tests.reference import variants
from tests.reference.models import pair

LLAMAS = {
    "llama": ("llama", {"num_attention_heads": 6, "num_key_value_heads": 2}),
    "plain llama": ("llama", {"num_attention_heads": 4, "num_key_value_heads": 4, "attention_bias": True}),
    "one group": ("llama", {"num_attention_heads": 4, "num_key_value_heads": 1}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
}
FAMILIES = (*LLAMAS, "baichuan-7b", "baichuan-13b", "baichuan2-13b", "rwkv-5.0", "rwkv-5.1", "rwkv-5.2", "rwkv-6", "rwkv-7")


def model(name: str) -> BlockModel:
    if name in LLAMAS:
        model_type, config = LLAMAS[name]
        return pair(model_type, "float64", **config)[0]
    return variants.model(name, "float64")


def deleted(m: Model, heads: set[tuple[int, int]]) -> Model:
    out = {i: {h for b, h in heads if b == i} for i in range(len(m.blocks))}
    return m.with_blocks([delete_heads(block, out[i]) if out[i] else block for i, block in enumerate(m.blocks)])


def some_sets(m: Model) -> list[set[tuple[int, int]]]:
    """Single heads and groups, the first of each block gone, one of each block left, and a set across blocks."""
    n = m.spec.blocks[0].n_heads
    first, rest = ({(i, h) for i in range(len(m.blocks)) for h in hs} for hs in (range(1), range(1, n)))
    single = [set(a.heads) for a in single_ablations(m.spec, ["heads", "kv_groups"]) if len(a.heads) < n]
    return [*single, first, rest, {(0, n - 1), (1, 0), (1, n - 1)}]


@pytest.mark.parametrize("name", FAMILIES)
def test_equals_zero_ablation(name: str) -> None:
    m = model(name)
    ids = torch.randint(90, (2, 14), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([14, 9])
    for heads in some_sets(m):
        expected = m.run(ids, Ablation(heads=frozenset(heads)), lengths=lengths)
        found = deleted(m, heads).run(ids, lengths=lengths)
        for d, n in enumerate(lengths):
            assert (found - expected)[d, :n].abs().max() / expected.std() < 1e-9, heads


@pytest.mark.parametrize("name", FAMILIES)
def test_the_spec_counts_what_is_left(name: str) -> None:
    m = model(name)
    for heads in some_sets(m):
        pruned = deleted(m, heads)
        for i, (before, after) in enumerate(zip(m.blocks, pruned.blocks, strict=True)):
            assert after.spec.n_params == sum(t.numel() for t in after.weights.values())
            assert before.spec.n_params - after.spec.n_params == before.spec.mixer_params - after.spec.mixer_params
            gone = sum(b == i for b, _ in heads)
            assert after.spec.n_heads == before.spec.n_heads - gone
            if gone:
                assert after.spec.flops_per_token < before.spec.flops_per_token
        assert pruned.spec.n_params == m.spec.n_params - sum(
            a.numel() - b.numel()
            for x, y in zip(m.blocks, pruned.blocks, strict=True)
            for a, b in zip(x.weights.values(), y.weights.values(), strict=True)
        )


@pytest.mark.parametrize("name", ["llama", "baichuan-13b", "rwkv-5.2", "rwkv-6", "rwkv-7"])
def test_reading_in_two_parts(name: str) -> None:
    """The past of a narrow block is its own."""
    m = model(name)
    block = delete_heads(m.blocks[1], [0])
    ids = torch.randint(90, (1, 12), generator=torch.Generator().manual_seed(0))
    x, ctx = m.begin(ids)
    whole = block.mix(x, ctx).delta
    first = block.mix(*m.begin(ids[:, :7]))
    second = block.mix(*m.begin(ids[:, 7:], start=torch.tensor([7])), first.past)
    assert torch.allclose(torch.cat([first.delta, second.delta], 1), whole, atol=1e-9)


def test_a_key_value_head_goes_with_its_last_reader() -> None:
    block = model("llama").blocks[0]  # 6 heads in 2 groups
    sizes = {
        heads: tuple(delete_heads(block, heads).weights[role].shape[0] // 8 for role in "qkv")
        for heads in itertools.combinations(range(6), 3)
    }
    assert sizes[0, 1, 2] == sizes[3, 4, 5] == (3, 1, 1)
    assert all(size == (3, 2, 2) for heads, size in sizes.items() if heads not in ((0, 1, 2), (3, 4, 5)))
    assert delete_heads(block, [0]).spec.n_kv_heads is None, "groups of two and three"
    assert delete_heads(block, [0, 3]).spec.n_kv_heads == 2
    uneven = model("llama").with_blocks([delete_heads(block, [0])])
    with pytest.raises(StrataError, match="groups of unequal size"):
        single_ablations(uneven.spec, ["kv_groups"])
    assert len(single_ablations(uneven.spec, ["heads"])) == 5


def test_bad_input() -> None:
    block = model("llama").blocks[0]
    for heads, says in (([6], "head 6 is out of range: the block has heads 0 to 5"), (range(6), "all 6 heads of a block are to go")):
        with pytest.raises(StrataError, match=says):
            delete_heads(block, heads)
    with pytest.raises(StrataError, match="has no heads"):
        delete_heads(variants.model("rwkv-4").blocks[0], [0])
    rwkv = variants.model("rwkv-5.2").blocks[0]
    with pytest.raises(StrataError, match="cannot be deleted from a NarrowTimeMix"):
        delete_heads(delete_heads(rwkv, [0]), [1])


def test_one_after_the_other_is_both_at_once() -> None:
    m = model("llama")
    x, ctx = m.begin(torch.arange(9)[None])
    for first, then, both in (([0], [1], [0, 2]), ([4, 1], [3], [1, 4, 5]), ([0, 1, 2], [0], [0, 1, 2, 3])):
        block = m.blocks[0]
        found, expected = delete_heads(delete_heads(block, first), then), delete_heads(block, both)
        assert found.spec == expected.spec
        assert torch.equal(found.mix(x, ctx).delta, expected.mix(x, ctx).delta)
