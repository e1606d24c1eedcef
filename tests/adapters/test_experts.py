"""Experts by themselves: routing against a loop over tokens, and faults that the contract must catch."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import silu

from adapters import KEEP, Ablation, StrataError, load
from adapters.action import Action
from adapters.base import BlockModel
from adapters.checkpoints.export import Source
from adapters.checkpoints.stock import by_transformers
from adapters.contract import assert_close
from adapters.contract.past import check_edges
from adapters.contract.spec import check_spec
from adapters.experts import met, route
from adapters.wrapped import WrappedBlock
from analysis.checkpoints.cuts import cut
from tests.reference.parity import Pair

EACH = {(0, 0), (1, 1), (2, 2)}  # one expert of each block
SPARSE = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 40}


@pytest.fixture(scope="module", params=[False, True], ids=["shares", "renormalised"])
def model(request: pytest.FixtureRequest) -> BlockModel:
    return Pair("qwen2_moe", SPARSE | {"norm_topk_prob": request.param}).model


def by_hand(block, x: Tensor, out: set[int]) -> Tensor:
    """What an ffn gives for one token (d,) in fp64: no batches, no sorting, all that it chooses from in a list."""
    w = {role: t.double() for role, t in block.weights.items()}
    h = x.double()
    h = w["ffn_norm"] * h / (h.pow(2).mean() + block.eps).sqrt()

    def mlp(gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
        return down @ (silu(gate @ h) * (up @ h))

    odds = {e: math.exp(float(w["router"][e] @ h)) for e in range(len(w["router"])) if e not in out}
    chosen = sorted(odds, key=lambda e: -odds[e])[: block.spec.experts_per_token]
    total = sum(odds[e] for e in (chosen if block.renormalised else odds))
    beside = torch.sigmoid(w["shared_scale"][0] @ h) * mlp(w["shared_gate"], w["shared_up"], w["shared_down"])
    return beside + sum(
        (odds[e] / total * mlp(*(w[f"expert_{role}"][e] for role in ("gate", "up", "down"))) for e in chosen), torch.zeros(())
    )


@pytest.mark.parametrize("out", [{0}, {1, 3}, {0, 1, 2, 3}, {0, 1, 2, 3, 4}])
@pytest.mark.parametrize("beside_others", [False, True])
def test_an_ffn_without_experts(model: BlockModel, out: set[int], beside_others: bool) -> None:
    """Alone, and as one of several edges of which others keep all."""
    x, ctx = model.begin(torch.arange(24).reshape(2, 12))
    others = [(0, KEEP), (0, Action(experts=frozenset({4})))] if beside_others else []
    with torch.inference_mode():
        found = model.advance(1, x, ctx, [(0, Action(mixer=False, experts=frozenset(out))), *others]).x[:2] - x
    expected = torch.stack([torch.stack([by_hand(model.blocks[1], token, out) for token in row]) for row in x])
    assert (found - expected).abs().max() < 2e-5 * expected.std()


def test_ties_and_places_that_nobody_fills() -> None:
    """Two experts for each token, of which one is left, and none."""
    logits = torch.tensor([[0.0, 1.0, 2.0]])
    one = route(logits, 2, True, torch.tensor([True, False, True]))
    assert one.experts[0, 0] == 1
    assert one.weights.tolist() == [[1, 0]]
    assert route(logits, 2, True, torch.ones(3, dtype=torch.bool)).weights.tolist() == [[0, 0]]
    assert route(logits, 2, False).weights.sum() < 1


def test_expected_tokens(model: BlockModel) -> None:
    """By counting all choices of two among those that are left."""
    from itertools import combinations

    spec, none = model.spec.blocks[0], frozenset[int]()
    for base, out in (
        (none, {0}),
        (none, {0, 1}),
        ({0}, {0, 1}),
        ({0}, {0, 1, 2}),
        ({0, 1, 2}, {0, 1, 2, 3}),
        ({0, 1, 2, 3}, set(range(5))),
    ):
        choices = list(combinations(sorted(set(range(5)) - set(base)), 2)) or [(4,)]
        share = sum(bool(set(choice) & set(out)) for choice in choices) / len(choices)
        assert met(spec, frozenset(base), frozenset(out)) == pytest.approx(share)


class Astray(WrappedBlock):
    """Says that tokens went to the next expert."""

    def route(self, x: Tensor, without: Tensor | None = None):
        sent = super().route(x, without)
        return sent._replace(experts=(sent.experts + 1) % self.spec.n_experts)


class Blind(WrappedBlock):
    """Sends no token elsewhere."""

    def ffn(self, x: Tensor, ctx, past=None, without: Tensor | None = None):
        return super().ffn(x, ctx, past)


@pytest.mark.parametrize("wrong", [Astray, Blind])
def test_the_contract_sees_tokens_that_go_astray(model: BlockModel, wrong: type) -> None:
    check_edges(model)
    check_spec(model)
    # one edge alone, of which no run on other tokens is made, does not see where they were sent
    edges = [(0, Action(experts=frozenset({0}))), (0, KEEP)]
    x, ctx = model.begin(torch.arange(24).reshape(2, 12))
    found = model.with_blocks([wrong(block) for block in model.blocks]).advance(0, x, ctx, edges).x
    assert not torch.equal(found, model.advance(0, x, ctx, edges).x)
    if wrong is Astray:
        with pytest.raises(AssertionError):
            check_edges(model.with_blocks([wrong(block) for block in model.blocks]))


def test_heads_and_experts_are_deleted_together(tmp_path: Path) -> None:
    """Transformers holds as many heads and as many experts of each block, whatever experts are called in its memory."""
    pair = Pair("mixtral", {"num_local_experts": 5})
    source, out = Source.of(pair.folder.name, pair.model.spec), Ablation(heads={(i, h) for i in range(3) for h in (0, 1)}, experts=EACH)
    left = cut(pair.model, source, out)
    assert not left.zeroed
    with torch.inference_mode():
        source.write([], tmp_path, "safetensors", left.changed, left.config, out.experts)
        expected = pair.model.run(pair.ids, out)
        assert_close(by_transformers(tmp_path, pair.ids, "cpu", "float32"), expected, 1e-4)
        assert_close(left.model.run(pair.ids), expected)
    few = load(tmp_path, dtype="float32", device="cpu").spec
    assert [(block.n_heads, block.n_experts) for block in few.blocks] == [(2, 4)] * 3
    assert few.n_params == left.model.spec.n_params


def test_blocks_without_experts_say_so() -> None:
    dense = Pair("llama", {}).model
    x, ctx = dense.begin(torch.arange(12)[None])
    for blocks in (dense.blocks, [WrappedBlock(block) for block in dense.blocks]):
        with pytest.raises(StrataError, match="this architecture has no experts: ablate its blocks, mixers or ffns instead"):
            dense.with_blocks(blocks).advance(0, x, ctx, [(0, Action(experts=frozenset({0})))])
