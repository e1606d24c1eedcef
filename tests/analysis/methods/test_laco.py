"""LaCo: against its closed forms on weights, the Hugging Face model on hidden states, and the loop of the notebooks step by step."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from torch import Tensor

from adapters.errors import StrataError
from analysis.methods import laco
from analysis.methods.laco import Layer, collapse, collapsed, counts, merge_width
from analysis.methods.method import size, solve
from analysis.methods.table import METHODS
from tests.analysis.methods.deep import BLOCKS, deep, text
from tests.reference import variants
from tests.reference.models import pair

VARIANTS = ["llama", "baichuan-7b", "baichuan2-13b", "rwkv-4", "rwkv-6", "rwkv-7"]


@cache
def found(variant: str, mode: str, count: int = 3) -> laco.Collapsed:
    return collapse(deep(variant), text(), count, mode)


def is_norm(role: str) -> bool:
    return role.removesuffix("_bias") in ("mixer_norm", "ffn_norm")


@pytest.mark.parametrize("variant", VARIANTS)
def test_official_is_the_reordered_blocks_with_the_norms_kept(variant: str) -> None:
    """Every block of the result is one of the dense ones, the last that went into it, behind the norms of the first."""
    model = deep(variant)
    result = collapse(model, text(), 3, "official")
    firsts = [layer.norms for layer in result.layers]
    lasts = [last - 1 for last in [*firsts[1:], BLOCKS]]  # all up to the next one have gone into it
    ids = text()[0].ids
    pruned = collapsed(model, result.layers)
    assert firsts[0] == 0
    assert len(firsts) == BLOCKS - 3
    for block, first, last in zip(pruned.blocks, firsts, lasts, strict=True):
        for role, weight in block.weights.items():
            assert weight is model.blocks[first if is_norm(role) else last].weights[role], "references, no copies"
    assert size(model, pruned).block_params == pytest.approx(3 / BLOCKS, abs=0.02)
    assert torch.isfinite(pruned.run(ids)).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_eq1_is_the_sum_of_the_differences(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights by the paper's equation, applied to copies merge after merge; three blocks become one, and two."""
    monkeypatch.setattr(laco, "merge_width", lambda n: 3)
    model = deep(variant)
    log: list[tuple[int, int]] = []  # (base, how many it took in)
    blocks: list[dict[str, Tensor]] = [dict(block.weights) for block in model.blocks]

    def note(candidate: tuple[Layer, ...]) -> bool:
        at = next(i for i, (a, b) in enumerate(zip(candidate, [*now[0][: len(candidate)]], strict=True)) if a != b)
        log.append((at, len(now[0]) - len(candidate)))
        now[0] = candidate
        return True

    now = [tuple(Layer(i, ((i, 1),)) for i in range(BLOCKS))]
    layers = laco.descend(BLOCKS, laco.lowest(model), 3, laco.eq1, note)
    for at, took in log:
        taken, base = blocks[at + 1 : at + 1 + took], blocks[at]
        blocks[at] = {role: w if is_norm(role) else w + sum(t[role] - w for t in taken) for role, w in base.items()}
        del blocks[at + 1 : at + 1 + took]
    assert [took for _, took in log] == [2, 1]
    assert any(len(layer.weights) > 1 for layer in layers)
    for block, expected in zip(collapsed(model, layers).blocks, blocks, strict=True):
        for role, weight in block.weights.items():
            torch.testing.assert_close(weight, expected[role], rtol=1e-12, atol=1e-12)


def test_eq1_of_merged_blocks() -> None:
    a, b, c, d = (Layer(i, ((i, 1),)) for i in range(4))
    assert laco.eq1([a, b]) == Layer(0, ((1, 1),)), "of two blocks both modes are the same"
    merged = laco.eq1([b, c, d])
    assert merged == Layer(1, ((1, -1), (2, 1), (3, 1)))
    assert laco.eq1([a, merged, d]) == Layer(0, ((0, -1), (1, -1), (2, 1), (3, 2)))
    assert laco.official([a, merged]).weights == merged.weights


@pytest.mark.parametrize("mode", laco.MODES)
def test_similarity_equals_hugging_face(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the last merge, from hidden states behind the final norm of the merged Hugging Face model."""
    monkeypatch.setattr(laco, "merge_width", lambda n: 3)
    model, reference = pair("llama", "float64", num_hidden_layers=BLOCKS)
    batches = text(8)
    result = collapse(model, batches, 3, mode)
    assert any(len(layer.weights) > 1 for layer in result.layers) == (mode == "eq1")
    ids, lengths = batches[0].ids, batches[0].lengths  # 4 documents, and one of the second batch
    rows = [row[:n] for batch in batches for row, n in zip(batch.ids, batch.lengths.tolist(), strict=True)][: laco.DOCUMENTS]
    assert len(ids) < laco.DOCUMENTS
    assert len(lengths) == 4
    merged = copy.deepcopy(reference).double()
    dense = reference.double() if reference.dtype != torch.float64 else reference
    originals = [layer.state_dict() for layer in dense.model.layers]
    merged.model.layers = torch.nn.ModuleList(merged.model.layers[layer.norms] for layer in result.layers)
    for i, layer in enumerate(result.layers):
        state = merged.model.layers[i].state_dict()
        merged.model.layers[i].self_attn.layer_idx = i
        for key in state:
            if "layernorm" not in key:
                state[key] = sum(n * originals[block][key] for block, n in layer.weights)
        merged.model.layers[i].load_state_dict(state)
    merged.config.num_hidden_layers = len(result.layers)
    cosines = []
    for row in rows:
        a, b = (m.model(row[None], use_cache=False).last_hidden_state.flatten() for m in (merged, dense))
        cosines.append(float(a @ b / (a.norm() * b.norm())))
    similarity = laco.similarity_on(model, batches)(result.layers)
    assert similarity == pytest.approx(sum(cosines) / len(cosines), abs=1e-7)  # norms are in fp32 in both
    assert similarity > result.threshold


def test_the_threshold_and_c_are_said() -> None:
    for name, mode in (("laco", "official"), ("laco_eq1", "eq1")):
        solved = solve(METHODS[name], deep("llama"), text(), 3 / BLOCKS)
        assert solved.note == f"C {merge_width(BLOCKS)}, threshold {found('llama', mode).threshold:g}"


def test_the_threshold_is_the_highest_found() -> None:
    """At it so many blocks go; at the next one fewer do."""
    model, result = deep("llama"), found("llama", "official")
    similarity = laco.similarity_on(model, text())
    left = [
        len(laco.descend(BLOCKS, 0, 3, laco.official, lambda c, t=t: similarity(c) > t))
        for t in (result.threshold, result.threshold + 0.01)
    ]
    assert left[0] == BLOCKS - 3 < left[1]


def notebook_loop(n: int, width: int, threshold: float, similarity) -> list[list[int]]:
    """The published loop on lists: each block of the result as the dense blocks in it."""
    blocks = [[i] for i in range(n)]
    lay = n - 1 - width
    while lay >= 0:
        tmp = copy.deepcopy(blocks)
        merge_num = min(width - 1, len(tmp) - lay - 1)
        for _ in range(merge_num):
            tmp[lay] += tmp.pop(lay + 1)
        if similarity(tmp) > threshold:
            blocks = tmp
            lay -= 1
            if lay >= len(blocks):
                lay = len(blocks) - 1 - width
        else:
            lay -= 1
    return blocks


@pytest.mark.parametrize("seed", range(20))
def test_the_loop_is_that_of_the_notebooks(seed: int) -> None:
    n, threshold = 16 + seed, 0.4 + seed / 100

    def similar(firsts: list[int]) -> float:
        return float(torch.rand(1, generator=torch.Generator().manual_seed(hash(tuple(firsts)) + seed)))

    expected = notebook_loop(n, merge_width(n), threshold, lambda blocks: similar([b[0] for b in blocks]))
    made = laco.descend(n, 0, n, laco.official, lambda layers: similar([layer.norms for layer in layers]) > threshold)
    assert [(layer.norms, layer.weights[0][0]) for layer in made] == [(b[0], b[-1]) for b in expected]


def test_every_count_is_reached() -> None:
    model = deep("llama")
    for level in counts(model):
        assert len(METHODS["laco"].prune(model, text(), level).blocks) == BLOCKS - level
    assert merge_width(32) == 4
    assert merge_width(30) == 3
    assert merge_width(40) == 4


def test_bad_input() -> None:
    with pytest.raises(StrataError, match=r"LaCo takes 1 to \d of the 6 blocks of .* out, not 6"):
        collapse(deep("llama"), text(), 6, "official")
    with pytest.raises(StrataError, match="there is none: give at least one document"):
        collapse(deep("llama"), [], 2, "official")
    assert list(counts(variants.model("rwkv-7"))) == [], "block 0 lacks weights, and nothing is behind the last"


def test_the_dense_model_stays() -> None:
    model = deep("llama")
    before = [{role: t.clone() for role, t in block.weights.items()} for block in model.blocks]
    METHODS["laco_eq1"].prune(model, text(), 3)
    assert all(torch.equal(t, block.weights[role]) for block, old in zip(model.blocks, before, strict=True) for role, t in old.items())
