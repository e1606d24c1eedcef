"""LLM-Pruner against autograd on single samples, against zeroed weights, and published parameter counts."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from adapters import StrataError
from adapters.contract import assert_close
from analysis.methods.llm_pruner import LLM_PRUNER_PUBLISHED, Salience, count, cut, cut_blocks, grouped, levels, prune, saliences
from analysis.methods.method import size
from analysis.removal.delete_heads import delete_heads
from tests.analysis.methods.models import LLAMAS, llama_2, model, state, text
from tests.reference import baichuan, variants
from tests.reference.models import pair

CROPS = text(12, 12, 12, 12)
ROLES = ("q", "k", "v", "o", "gate", "up", "down")


def from_hugging_face(config: dict) -> list[dict[str, Tensor]]:
    """Weights times gradients by role, the gradient summed over one backward for each crop, of `block i` at place i."""
    _, reference = pair("llama", "float64", **config)
    reference = copy.deepcopy(reference).double().requires_grad_()
    for row in CROPS.ids:
        (reference(row[None], labels=row[None]).loss / len(CROPS.ids)).backward()
    parts = [(layer.self_attn, layer.mlp) for layer in reference.model.layers]
    modules = [{role: getattr(mlp if len(role) > 1 else attention, f"{role}_proj") for role in ROLES} for attention, mlp in parts]
    return [{role: m.weight.data * m.weight.grad for role, m in table.items()} for table in modules]


def from_published_keys(variant: str) -> list[dict[str, Tensor]]:
    config, tensors = baichuan.tiny(**variants.config(variant))
    tensors = {key: t.double().requires_grad_() for key, t in tensors.items()}
    for row in CROPS.ids:
        logits, _ = baichuan.naive(config, tensors, row[None], alibi="13b" in variant, norm_head="2" in variant)
        (torch.nn.functional.cross_entropy(logits[0, :-1], row[1:]) / len(CROPS.ids)).backward()
    products = {key: t.data * t.grad for key, t in tensors.items()}
    return [
        dict(zip("qkv", products[f"model.layers.{i}.self_attn.W_pack.weight"].chunk(3), strict=True))
        | {"o": products[f"model.layers.{i}.self_attn.o_proj.weight"]}
        | {role: products[f"model.layers.{i}.mlp.{role}_proj.weight"] for role in ("gate", "up", "down")}
        for i in range(variants.BLOCKS)
    ]


def read_by(kv_head: int, n_heads: int, n_kv_heads: int) -> list[int]:
    """The query heads that read it, as transformers repeats keys."""
    return [head for head in range(n_heads) if head // (n_heads // n_kv_heads) == kv_head]


def added_to(kv_head: int, n_heads: int, n_kv_heads: int) -> list[int]:
    """The query heads whose salience the published code adds: `imp.view(len(imp) // size, size).sum(0)` of channels."""
    return [head for head in range(n_heads) if head % n_kv_heads == kv_head]


@pytest.mark.parametrize("as_published", [False, True])
@pytest.mark.parametrize("name", ["llama", "biased", "tied", "baichuan2-7b", "baichuan-13b"])
def test_salience_is_that_of_single_samples(name: str, as_published: bool) -> None:
    m = model(name)
    expected = from_hugging_face(LLAMAS[name][1]) if name in LLAMAS else from_published_keys(name)
    halves = [CROPS._replace(ids=CROPS.ids[rows], lengths=CROPS.lengths[rows]) for rows in (slice(1), slice(1, 4))]
    for batches in ([CROPS], halves):
        for i, found in enumerate(saliences(m, batches, range(3), as_published=as_published)):
            block, products = m.blocks[i].spec, {role: t.abs() for role, t in expected[i].items()}
            for head in range(block.n_kv_heads):
                own = range(head * block.head_dim, (head + 1) * block.head_dim)
                heads = (added_to if as_published else read_by)(head, block.n_heads, block.n_kv_heads)
                queries = [h * block.head_dim + c for h in heads for c in range(block.head_dim)]
                total = products["k"][own].sum() + products["v"][own].sum() + products["q"][queries].sum() + products["o"][:, queries].sum()
                assert abs(found.heads[head] / total - 1) < 1e-5, "a norm in fp32 there"
            for channel in range(0, block.d_ffn, 7):
                total = products["gate"][channel].sum() + products["up"][channel].sum() + products["down"][:, channel].sum()
                assert abs(found.channels[channel] / total - 1) < 1e-5


def test_forms_differ_where_queries_are_grouped() -> None:
    """Other groups may go, of as many: as published the queries that a group is judged by are those of others."""
    for name, differ in (("llama", True), ("baichuan-13b", False)):
        m = model(name)
        assert grouped(m.spec) == differ
        ours, theirs = (saliences(m, [CROPS], [1], as_published=published)[0] for published in (False, True))
        assert torch.equal(ours.channels, theirs.channels)
        assert torch.equal(ours.heads, theirs.heads) != differ
        assert torch.allclose(ours.heads.sum(), theirs.heads.sum()), "each head counts once"
        made = LLM_PRUNER_PUBLISHED.prune(m, [CROPS], 0.5)
        expected = cut(m.blocks[1], theirs, 0.5)
        assert all(torch.equal(made.blocks[1].weights[role], t) for role, t in expected.weights.items())
        assert count(m, 0.5) == size(m, made)
    assert not grouped(replace(m.spec, blocks=(replace(m.spec.blocks[0], n_kv_heads=1),))), "all queries read the same keys"


def test_salience_is_of_the_mean_over_tokens_and_blind_to_padding() -> None:
    """Documents of unequal length count by their tokens, and what stands behind them does not count."""
    m = model("llama")
    long, short = CROPS._replace(ids=CROPS.ids[:1], lengths=CROPS.lengths[:1]), text(5, seed=4)
    padded = CROPS._replace(ids=torch.stack([long.ids[0], torch.cat([short.ids[0], torch.full((7,), 3)])]), lengths=torch.tensor([12, 5]))
    for a, b in zip(saliences(m, [long, short], [1]), saliences(m, [padded], [1]), strict=True):
        assert all(torch.allclose(x, y, rtol=1e-9) for x, y in zip(a, b, strict=True))


def test_published_parameter_count() -> None:
    m = llama_2("7b")
    assert list(cut_blocks(m)) == list(range(4, 30))
    assert round((1 - count(m, 0.25).params) * m.spec.n_params) == 5_422_977_024


@pytest.mark.parametrize("name", ["llama", "biased", "baichuan-7b", "baichuan-13b", "baichuan2-13b"])
def test_equals_the_model_with_zeros(name: str) -> None:
    """Without its least salient heads and channels; positions, ALiBi slopes and readers are those of the groups that stay."""
    m, ids = model(name), CROPS.ids
    before, ratio = state(m), 0.7
    pruned = prune(m, [CROPS], ratio)
    assert all(torch.equal(a, b) for a, b in zip(before, state(m), strict=True)), "the dense model is as it was"
    assert pruned.blocks[0] is m.blocks[0], "the first and the last stay"
    assert pruned.blocks[2] is m.blocks[2]
    (found,), block = saliences(m, [CROPS], [1]), m.blocks[1].spec
    stay = int(block.n_kv_heads * block.head_dim * 0.3)
    gone = (block.n_kv_heads * block.head_dim - stay) // block.head_dim
    assert 0 < gone < block.n_kv_heads
    heads, channels = found.heads.argsort()[:gone].tolist(), found.channels.argsort()[: block.d_ffn - int(block.d_ffn * 0.3)].tolist()
    zeroed = {role: t.clone() for role, t in m.blocks[1].weights.items()}
    for head in heads:
        zeroed["o"].unflatten(1, (block.n_kv_heads, -1))[:, head] = 0
    zeroed["down"][:, channels] = 0
    expected = m.with_blocks([m.blocks[0], replace(m.blocks[1], weights=zeroed), m.blocks[2]])
    assert_close(pruned.run(ids), expected.run(ids), 1e-9)
    after = pruned.blocks[1].spec
    assert (after.d_ffn, after.n_kv_heads) == (int(block.d_ffn * 0.3), block.n_kv_heads - gone)
    assert after.n_heads == after.n_kv_heads * block.n_heads // block.n_kv_heads


@pytest.mark.parametrize("name", ["llama", "biased", "qwen3", "baichuan-13b"])
def test_counts_are_of_what_is_there(name: str) -> None:
    m = model(name)
    for ratio in (0.25, 0.7):
        pruned = prune(m, [CROPS], ratio)
        assert count(m, ratio) == size(m, pruned)
        tables = [pruned.weights, *(block.weights for block in pruned.blocks)]
        assert pruned.spec.n_params == sum(t.numel() for table in tables for t in table.values())
        for block in pruned.blocks:
            assert block.spec.n_params == sum(t.numel() for t in block.weights.values())
            matrices = {role: t.numel() for role, t in block.weights.items() if t.dim() == 2}
            assert block.spec.flops_per_token == 2 * sum(matrices.values())
            assert block.spec.mixer_flops == 2 * sum(matrices[role] for role in "qkvo")


def test_the_least_salient_go() -> None:
    block = model("llama").blocks[0]  # 6 query heads of 8 channels on 2 keys and values, 80 ffn channels
    channels = torch.arange(80.0)
    channels[[3, 70]] = -1
    narrow = cut(block, Salience(torch.tensor([2.0, 1.0]), channels), 0.5)
    assert torch.equal(narrow.weights["q"], block.weights["q"][:24]), "the three that read the first key"
    assert torch.equal(narrow.weights["k"], block.weights["k"][:8])
    left = [c for c in range(39, 80) if c != 70]
    assert torch.equal(narrow.weights["up"], block.weights["up"][left])
    assert torch.equal(narrow.weights["down"], block.weights["down"][:, left])
    few = cut(block, Salience(torch.zeros(2), torch.zeros(80)), 0.43)
    assert (few.spec.n_kv_heads, few.spec.d_ffn) == (2, 45), "7 of 16 rows are not a whole head; 80 * 0.57 is rounded down"


def test_blocks_that_stay_whole() -> None:
    dense = model("llama")
    found = {n: cut_blocks(dense.with_blocks(dense.blocks[:1] * n)) for n in (2, 3, 8, 12, 16, 24, 30, 32, 40, 80)}
    kept = {n: (blocks.start, n - blocks.stop) for n, blocks in found.items()}
    assert kept == {2: (1, 1), 3: (1, 1), 8: (1, 1), 12: (2, 1), 16: (2, 1), 24: (3, 2), 30: (4, 2), 32: (4, 2), 40: (4, 2), 80: (4, 2)}
    assert levels(dense.with_blocks(dense.blocks[:2])) == []
    assert 0.25 in levels(dense)
    sizes = [count(dense, level).block_params for level in levels(dense)]
    assert sizes == sorted(sizes)


def test_bad_input() -> None:
    m = model("llama")
    for ratio in (-0.1, 0.95):
        for call in (lambda r: prune(m, [CROPS], r), lambda r: count(m, r)):
            with pytest.raises(StrataError, match=f"a ratio of {ratio:g} is given.*from 0 to 0.9"):
                call(ratio)
    with pytest.raises(StrataError, match="LLM-Pruner takes gradients on calibration text, and there is none"):
        prune(m, [], 0.25)
    with pytest.raises(StrataError, match="a document has no token to measure"):
        prune(m, [text(5, 1)], 0.25)
    with pytest.raises(StrataError, match="has 2: use a deeper model"):
        prune(m.with_blocks(m.blocks[:2]), [CROPS], 0.25)
    with pytest.raises(StrataError, match=r"cannot prune rwkv-6 .*: it takes attention"):
        prune(variants.model("rwkv-6"), [CROPS], 0.25)
    uneven = m.with_blocks([m.blocks[0], delete_heads(m.blocks[1], [0]), m.blocks[2]])
    with pytest.raises(StrataError, match=r"cannot cut block 1 of .*, whose heads are in groups of unequal size"):
        prune(uneven, [CROPS], 0.25)
    weights = m.blocks[1].weights
    for changed, says in (
        (weights["q"].to(torch.int8), "float weights, and .* has torch.int8 ones"),
        (weights["q"] * torch.nan, "block 1 of .* not finite"),
    ):
        other = m.with_blocks([m.blocks[0], replace(m.blocks[1], weights=weights | {"q": changed}), m.blocks[2]])
        with pytest.raises(StrataError, match=says):
            prune(other, [CROPS], 0.25)
