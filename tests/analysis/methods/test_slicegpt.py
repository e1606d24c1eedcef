"""SliceGPT against a Hugging Face model whose stream is projected, published parameter counts, and the dense model."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from adapters import Ablation, BlockModel, StrataError, contract
from adapters.contract import assert_close
from analysis.methods.method import size
from analysis.methods.slicegpt import SlicedModel, count, levels, principal_axes, prune, stream_axes, width
from analysis.removal.delete_heads import delete_heads
from tests.analysis.methods.models import LLAMAS, MODELS, llama_2, model, state, text
from tests.reference import slicegpt, variants
from tests.reference.models import pair

CHECKS = (  # those that leave no part out
    contract.check_shapes,
    contract.check_run_is_stream_and_logits,
    contract.check_repeatable,
    contract.check_causality,
    contract.check_rows_are_independent,
    contract.check_padding,
    contract.check_left_padding_is_refused,
    contract.check_cut_in_two,
    contract.check_past_rows,
)
TEXT = [text(30, 21), text(25, 12, 7, seed=1)]  # 95 tokens, two batches of different widths


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-4)])
def test_without_slices_it_is_the_dense_model(name: str, dtype: str, tolerance: float) -> None:
    m, batch = model(name, dtype), text(23, 14, seed=2)
    found = prune(m, TEXT, 0.0).run(batch.ids, lengths=batch.lengths)
    for row, n in enumerate(batch.lengths):
        assert_close(found[row, :n], m.run(batch.ids, lengths=batch.lengths)[row, :n], tolerance)


@pytest.mark.parametrize("name", ["llama", "biased", "qwen2", "qwen3", "tied"])
def test_equals_a_projected_stream(name: str) -> None:
    m, (kind, config) = model(name), LLAMAS[name]
    reference = copy.deepcopy(pair(kind, "float64", **config)[1]).double()
    ids, lengths = torch.zeros(5, 30, dtype=torch.long), torch.cat([b.lengths for b in TEXT])
    for row, tokens in enumerate(itertools.chain(*(b.ids for b in TEXT))):
        ids[row, : len(tokens)] = tokens
    sparsity = 0.3
    assert width(m, sparsity) == 32
    expected = slicegpt.logits(reference, TEXT[0].ids, slicegpt.projections(reference, ids, lengths, 32))
    assert_close(prune(m, TEXT, sparsity).run(TEXT[0].ids), expected, 1e-4)  # RMSNorm is in fp32 there


@pytest.mark.parametrize("name", ["llama", "baichuan2-13b"])
def test_axes_are_orthogonal_and_blind_to_padding(name: str) -> None:
    m = model(name)
    axes = list(stream_axes(m, TEXT, width(m, 0.3)))
    assert len(axes) == 1 + 2 * len(m.blocks)
    for q in axes:
        assert q.dtype == torch.float64
        assert (q.T @ q - torch.eye(len(q), dtype=q.dtype)).abs().max() < 1e-10
    other = [b._replace(ids=b.ids.masked_fill(torch.arange(b.ids.shape[1]) >= b.lengths[:, None], 5)) for b in TEXT]
    ids = text(9, 9, seed=3).ids
    assert torch.equal(prune(m, other, 0.3).run(ids), prune(m, TEXT, 0.3).run(ids))


def test_axes_go_by_eigenvalue_of_the_uncentred_moment() -> None:
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * torch.tensor([1, 9, 2, 7, 3, 5]) + 4
    q = principal_axes(x.T @ x, "x")
    energy = (x @ q).square().sum(0)
    assert torch.equal(energy, energy.sort(descending=True).values)
    assert torch.allclose(energy.sqrt(), torch.linalg.svdvals(x))


@pytest.mark.parametrize(("shape", "gone"), [("7b", (9.4, 15.3, 21.5)), ("13b", (9.3, 15.5, 21.5))])
def test_published_parameter_counts(shape: str, gone: tuple[float, ...]) -> None:
    m = llama_2(shape)
    assert tuple(round(100 * count(m, sparsity).params, 1) for sparsity in (0.2, 0.25, 0.3)) == gone


@pytest.mark.parametrize("name", ["llama", "tied", "biased", "qwen3", "baichuan-13b"])
def test_counts_are_of_what_is_there(name: str) -> None:
    m = model(name)
    before = state(m)
    pruned = prune(m, TEXT, 0.3)
    assert all(torch.equal(a, b) for a, b in zip(before, state(m), strict=True)), "the dense model is as it was"
    assert count(m, 0.3) == size(m, pruned)
    assert isinstance(pruned, SlicedModel)
    tables = [pruned.weights, *(block.weights for block in pruned.blocks)]
    tensors = [t for table in tables for t in table.values() if t.dim()]  # a number is no parameter
    tensors += [t for block in pruned.blocks for t in (block.mixer_skip, block.ffn_skip)]
    assert pruned.spec.n_params == sum(t.numel() for t in tensors)
    assert set(pruned.weights) == {"embed", "unembed"}
    d, kept, last = m.spec.d_model, width(m, 0.3), pruned.blocks[-1]
    assert (pruned.weights["embed"].shape[1], pruned.weights["unembed"].shape[1]) == (kept, d)
    assert (last.weights["down"].shape[0], last.ffn_skip.shape) == (d, (kept, d)), "what the last block gives is not sliced"
    assert pruned.blocks[0].ffn_skip.shape == pruned.blocks[0].mixer_skip.shape == (kept, kept)
    for block, whole in zip(pruned.blocks, m.blocks, strict=True):
        matrices = {role: t.numel() for role, t in block.weights.items() if t.dim() == 2}
        mixer = sum(matrices[role] for role in "qkvo") + block.mixer_skip.numel()
        assert block.spec.flops_per_token == 2 * (sum(matrices.values()) + block.mixer_skip.numel() + block.ffn_skip.numel())
        assert block.spec.mixer_flops == 2 * mixer
        assert block.spec.flops_per_token < whole.spec.flops_per_token
        biases = sum(t.numel() for role, t in block.weights.items() if t.dim() == 1 and role[0] in "qkvo")
        assert block.spec.mixer_params == mixer + biases < block.spec.n_params < whole.spec.n_params


def test_an_untied_head_can_make_a_model_larger() -> None:
    m = pair("llama", tie_word_embeddings=True, vocab_size=2000)[0]
    assert count(m, 0.3).params < 0 < count(m, 0.3).block_params


def test_levels_are_all_widths() -> None:
    m = model("llama")
    assert [width(m, level) for level in levels(m)] == [48, 40, 32, 24, 16, 8]
    sizes = [count(m, level).block_params for level in levels(m)]
    assert sizes == sorted(sizes)
    assert [width(llama_2("7b"), s) for s in (0, 0.2, 0.25, 0.3)] == [4096, 3272, 3072, 2864]


@pytest.mark.parametrize("name", ["llama", "biased", "baichuan-13b"])
@pytest.mark.parametrize("check", CHECKS)
def test_it_runs_as_every_model(check: Callable[[BlockModel], None], name: str) -> None:
    check(prune(model(name, "float32"), TEXT, 0.3))


@pytest.mark.parametrize("name", ["llama", "baichuan2-7b"])
def test_bfloat16(name: str) -> None:
    ids, exact, small = text(20).ids, prune(model(name, "float32"), TEXT, 0.3), prune(model(name, "bfloat16"), TEXT, 0.3)
    assert {t.dtype for t in (small.run(ids), small.blocks[0].mixer_skip, small.blocks[0].weights["q"])} == {torch.bfloat16}
    error = (small.run(ids).float() - exact.run(ids)).square().mean().sqrt() / exact.run(ids).std()
    assert error < 0.1


@pytest.mark.parametrize("name", ["llama", "baichuan-13b"])
def test_heads_can_still_be_taken_out(name: str) -> None:
    """A head leaves its share of the projection; the weights of another head are the same with and without it."""
    m, ids = prune(model(name), TEXT, 0.3), text(12).ids
    narrow = m.with_blocks([copy.copy(block) for block in m.blocks])
    narrow.blocks[1].block = delete_heads(narrow.blocks[1].block, [0, 2])
    assert_close(m.run(ids, Ablation(heads={(1, 0), (1, 2)})), narrow.run(ids), 1e-9)


def test_parts_cannot_be_left_out() -> None:
    m = prune(model("llama"), TEXT, 0.3)
    for ablation in (Ablation(blocks={1}), Ablation(mixers={1}), Ablation(ffns={1})):
        with pytest.raises(StrataError, match=r"is sliced.*block 1 cannot be left out.*; remove first and slice then"):
            m.run(TEXT[0].ids, ablation)
    with pytest.raises(StrataError, match="3 blocks cannot become 2"):
        m.with_blocks(m.blocks[1:])


def test_bad_input() -> None:
    m = model("llama")
    for sparsity, says in ((-0.2, "leaves 56 of 48 channels.*from 0 to 0.83"), (0.9, "leaves 0 of 48 channels")):
        for call in (lambda s: prune(m, TEXT, s), lambda s: count(m, s)):
            with pytest.raises(StrataError, match=says):
                call(sparsity)
    with pytest.raises(StrataError, match="47 calibration tokens do not show 48 axes"):
        prune(m, [text(30, 17)], 0.3)
    with pytest.raises(StrataError, match="0 calibration tokens"):
        prune(m, [], 0.3)
    for call in (lambda m: prune(m, TEXT, 0.3), lambda m: count(m, 0.3)):
        with pytest.raises(StrataError, match=r"cannot prune rwkv-7 .*: it takes RMSNorm"):
            call(variants.model("rwkv-7"))
        with pytest.raises(StrataError, match=r"cannot cut block 0 of .*, a SlicedBlock"):
            call(prune(m, TEXT, 0.3))
    damaged = copy.copy(m)
    damaged.weights = m.weights | {"embed": m.weights["embed"] * torch.inf}
    with pytest.raises(StrataError, match=r"second moment of the embeddings of .* is not finite"):
        prune(damaged, TEXT, 0.3)
    first = replace(m.blocks[0], weights=m.blocks[0].weights | {"q": m.blocks[0].weights["q"].to(torch.int8)})
    with pytest.raises(StrataError, match=r"float weights, and .* has torch.int8 ones: quantise afterwards"):
        prune(m.with_blocks([first, *m.blocks[1:]]), TEXT, 0.3)
    quantised = m.with_blocks(m.blocks)
    quantised.spec = replace(m.spec, quantised="4 bits")
    with pytest.raises(StrataError, match=r"are quantised \(4 bits\)"):
        prune(quantised, TEXT, 0.3)


def test_a_singular_moment_is_named_with_the_damping_that_fixes_it() -> None:
    x = torch.randn(3, 6, dtype=torch.float64)
    with pytest.raises(
        StrataError,
        match=r"second moment of x is singular \(rank 3 of 6, with 0 of .* added\): .* principal_axes\(..., damping=0.01\), fixes",
    ):
        principal_axes(x.T @ x, "x", damping=0)
    axes = principal_axes(x.T @ x, "x", damping=0.01)
    assert_close(x @ axes[:, :3] @ axes[:, :3].T, x, 1e-10)
    with pytest.raises(StrataError, match="x is not finite, or zero"):
        principal_axes(torch.zeros(6, 6, dtype=torch.float64), "x")
