"""Sizes, and the level that reaches them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from adapters import BlockModel
from adapters.errors import StrataError
from analysis.data.batches import Batch
from analysis.methods.method import TOLERANCE, Method, Remembered, Size, UnreachableError, first_documents, nearest, require, size, solve
from analysis.methods.table import METHODS
from analysis.removal.orders import ORDERS, Calibration
from tests.analysis.methods.deep import BLOCKS, deep, text
from tests.analysis.methods.models import baichuan2_7b, smollm2


def parameters(tables: list[dict[str, torch.Tensor]]) -> int:
    return sum(t.numel() for table in tables for t in table.values())


@pytest.mark.parametrize("variant", ["llama", "baichuan2-7b", "rwkv-4", "rwkv-7"])
def test_size_is_counted_from_weights(variant: str) -> None:
    dense = deep(variant)
    pruned = METHODS["shortgpt"].prune(dense, text(), 2)
    before, after = ([b.weights for b in m.blocks] for m in (dense, pruned))
    found = size(dense, pruned)
    assert found.block_params == pytest.approx(1 - parameters(after) / parameters(before))
    assert found.params == pytest.approx(1 - parameters([*after, pruned.weights]) / parameters([*before, dense.weights]))
    assert found.params < found.flops < found.block_params, "the head is neither removed nor free"


def test_flops_by_hand() -> None:
    """Llama with 6 blocks: q and o 48 x 48, k and v 24 x 48, three matrices 80 x 48; the head 97 x 48."""
    model = deep("llama")
    block, head = 48 * (48 + 48 + 24 + 24 + 3 * 80), 97 * 48
    assert METHODS["laco"].count(model, 3).flops == pytest.approx(3 * block / (6 * block + head))


def test_the_nearest_level_is_taken() -> None:
    model = deep("llama")
    for target, level in ((1 / 6, 1), (0.34, 2), (0.32, 2), (0.51, 3), (5 / 6, 5)):
        solved = solve(METHODS["shortgpt"], model, text(), target)
        assert solved.level == level
        assert len(solved.model.blocks) == BLOCKS - level
        assert abs(solved.size.block_params - target) <= 0.015


def test_targets_that_no_level_reaches() -> None:
    model = deep("llama")
    with pytest.raises(
        StrataError, match=r"does not come within 1.5 % of 25 % .* nearest that it reaches are 16.7 % \(level 1\) and 33.3 % \(level 2\)"
    ):
        solve(METHODS["shortgpt"], model, text(), 0.25)
    with pytest.raises(StrataError, match=r"the nearest that it reaches is 83.3 % \(level 5\)$"):
        solve(METHODS["shortgpt"], model, text(), 0.95)
    assert solve(METHODS["shortgpt"], model, text(), 0.25, tolerance=0.1).level in (1, 2)
    for target in (0, 1, 25):
        with pytest.raises(StrataError, match="is not a share of the block parameters"):
            solve(METHODS["shortgpt"], model, text(), target)
    with pytest.raises(StrataError, match=r"LaCo removes nothing from .*, which has 2 blocks: use a deeper model"):
        solve(METHODS["laco"], model.with_blocks(model.blocks[:2]), text(), 0.5)


REACHED = {  # percent of the block parameters on the shapes of SmolLM2-135M and Baichuan2-7B, when a quarter is asked for
    "blocks": (23.3, 25.0),
    "slicegpt": (24.7, 25.0),
    "llm_pruner": (26.5, 25.5),
    "llm_pruner_published": (26.5, 25.5),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shape", [smollm2, baichuan2_7b])
def test_a_quarter_of_published_shapes_is_met_or_the_nearest_are_named(shape: Callable[[], BlockModel], name: str) -> None:
    model, method = shape(), METHODS[name]
    (_, found), *others = nearest(method, model, 0.25)
    assert round(100 * found.block_params, 1) == REACHED.get(name, REACHED["blocks"])[shape is baichuan2_7b]
    assert all(abs(found.block_params - 0.25) <= abs(other.block_params - 0.25) for _, other in others)
    if abs(found.block_params - 0.25) > TOLERANCE:
        assert (shape, name in REACHED) == (smollm2, False), "7 and 8 of 30 blocks"
        with pytest.raises(UnreachableError, match=r"the nearest that it reaches are 23.3 % \(level 7\) and 26.7 % \(level 8\)$"):
            solve(method, model, [], 0.25)


def test_the_size_that_counts_is_that_of_the_pruned_model() -> None:
    """A method whose count is off, as it can be where blocks differ."""
    off = replace(METHODS["shortgpt"], count=lambda model, level: Size(0.25, 0, 0, 0))
    with pytest.raises(UnreachableError, match=r"does not come within 1.5 % of 25 % .* the nearest that it reaches is 16.7 % \(level 1\)$"):
        solve(off, deep("llama"), text(), 0.25)


def test_a_method_with_fine_levels() -> None:
    """Bisection asks for few of the candidates."""
    asked: list[float] = []

    def count(model: BlockModel, level: float) -> Size:
        asked.append(level)
        return Size(level**2, 0, 0, 0)

    def prune(model: BlockModel, batches: list[Batch], level: float) -> BlockModel:
        return model

    fine = Method("fine", "", prune, lambda model: [i / 1000 for i in range(1000)], count, stock=False)
    (level, found), *_ = nearest(fine, deep("llama"), 0.25)
    assert (level, found.block_params) == (0.5, 0.25)
    assert len(asked) < 15


def test_the_first_documents() -> None:
    whole = text(7)
    few = first_documents(whole, 5)
    assert [b.ids.tolist() for b in few] == [whole[0].ids.tolist(), whole[1].ids[:2].tolist()]
    assert [len(b.windows) for b in few] == [len(b.tokens) for b in few] == [3, 2]
    assert len(first_documents(whole, 100)) == 2


def test_remembered_until_the_text_or_the_model_changes() -> None:
    asked = []
    remembered = Remembered(lambda model, batches: asked.append(1) or len(asked))
    model, one, two = deep("llama"), text(), text()
    assert [remembered(model, b) for b in (one, one, two, two, one)] == [1, 1, 2, 2, 3]
    assert remembered(model.with_blocks(model.blocks), one) == 4
    searched = Remembered(lambda model, batches, count: asked.append(1) or (count, len(asked)))
    assert [searched(model, one, count) for count in (2, 2, 3)] == [(2, 5), (2, 5), (3, 6)]


def test_removal_is_the_order() -> None:
    for variant in ("llama", "rwkv-7"):
        model = deep(variant)
        for name, order in (("shortgpt", "bi"), ("one_shot", "nll")):
            out = ORDERS[order].find(Calibration(model, text()), 3)[-1].blocks
            pruned = METHODS[name].prune(model, text(), 3)
            assert [b for i, b in enumerate(model.blocks) if i not in out][1:] == list(pruned.blocks)[1:]


def test_models_that_a_method_cannot_prune() -> None:
    model = deep("llama")
    only = replace(METHODS["laco"], lacks=lambda model: "wings")
    with pytest.raises(StrataError, match=r"LaCo cannot prune .* \(llama\): it takes wings; use another method"):
        require(only, model)
    quantised = model.with_blocks(model.blocks)
    quantised.spec = replace(model.spec, quantised="4 bits")
    with pytest.raises(StrataError, match=r"linear replacement computes with float weights, and .* are quantised \(4 bits\)"):
        require(METHODS["linear"], quantised)
    require(METHODS["shortgpt"], quantised)
