"""Sweeps of experts: the same sums whatever fits into memory, what they need of it, and metrics of single experts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from adapters import KEEP, Ablation, StrataError
from adapters.action import Action
from adapters.block import Block
from adapters.experts import experts_of
from adapters.wrapped import WrappedBlock
from analysis.data.batches import Batch, Text
from analysis.engine import cost
from analysis.engine.ablations import single_ablations
from analysis.engine.plan import plan
from analysis.engine.sweep import call_bytes, inner_bytes, stream_bytes, sweep
from analysis.metrics.metrics import EXPERT_METRICS, measure
from analysis.metrics.study import ImportanceStudy
from analysis.metrics.taylor import taylor
from analysis.removal.orders import Calibration, order_of
from analysis.tasks.likelihoods import likelihoods
from analysis.tasks.requests import Request
from tests.reference.experts import chosen_experts
from tests.reference.held import Held
from tests.reference.parity import Pair, mixed_experts

SPARSE = {
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 40,
    "shared_expert_intermediate_size": 56,
    "mlp_only_layers": [1],
}


@pytest.fixture(scope="module", params=[False, True], ids=["shares", "renormalised"])
def pair(request: pytest.FixtureRequest) -> Pair:
    return Pair("qwen2_moe", SPARSE | {"norm_topk_prob": request.param})


def test_memory_follows_from_shapes(pair: Pair) -> None:
    """All experts of a block out of one stream, one at a time, at once: no more than is said, and not far less."""
    model, ids = pair.model, torch.randint(97, (4, 60), generator=torch.Generator().manual_seed(0))
    x, ctx = model.begin(ids)
    edges = [(0, KEEP), *[(0, Action(experts=frozenset({e}))) for e in range(6)]]
    said = inner_bytes(model, len(edges) * ids.numel(), ids.shape[1]) + len(edges) * stream_bytes(model, *ids.shape)
    with torch.inference_mode(), Held() as held:
        model.advance(0, x, ctx, edges)
    assert said / 4 < held.most <= said


def test_time_is_told_from_tokens_that_meet_all_experts(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens that are alike would go to the same few experts, which a pass over text does not."""
    met: dict[int, set[int]] = {0: set(), 2: set()}
    blocks = [Routed(block, met.get(i, set())) for i, block in enumerate(pair.model.blocks)]
    assert cost.speed(pair.model.with_blocks(blocks), 37) > 0
    assert met == {0: set(range(6)), 2: set(range(6))}


class Routed(WrappedBlock):
    """Notes where the ffn sends tokens."""

    def __init__(self, block: Block, met: set[int]) -> None:
        super().__init__(block)
        self.met = met

    def ffn(self, x: Tensor, ctx: Any, past: Any = None, without: Tensor | None = None) -> tuple[Tensor, Any]:
        if self.block.spec.n_experts:
            self.met.update(experts_of(self.block).route(x).experts.flatten().tolist())
        return super().ffn(x, ctx, past, without)


def test_little_memory_changes_nothing(pair: Pair) -> None:
    work = plan(
        pair.model.spec, [*single_ablations(pair.model.spec, ["experts", "blocks"]), Ablation(experts={(0, 1), (2, 3)}, heads={(1, 0)})]
    )
    lengths = torch.tensor([37, 11, 20])
    least = work.minimum * stream_bytes(pair.model, *pair.ids.shape) + call_bytes(pair.model, work, *pair.ids.shape)
    for memory in (None, least):
        found = sweep(pair.model, work, pair.ids, lengths, memory=memory)
        if memory is None:
            expected = found
        for name in found:
            assert torch.allclose(found[name], expected[name], rtol=1e-5, atol=1e-3)
    with pytest.raises(StrataError, match="allowed: give it more memory, shorter windows"):
        sweep(pair.model, work, pair.ids, lengths, memory=work.minimum * stream_bytes(pair.model, *pair.ids.shape))


def test_questions_are_answered_as_by_transformers_without_the_same_experts(pair: Pair) -> None:
    """From one tree of prompts: two questions of three options each, under single experts and several."""
    work = plan(pair.model.spec, [Ablation(), *mixed_experts(pair.model.spec), Ablation(experts={(0, 1)})])
    prompts = [tuple(pair.ids[d, :n].tolist()) for d, n in ((0, 20), (1, 12))]
    requests = [Request(prompt, option) for prompt in prompts for option in ((5,), (6, 7), (6, 8, 9))]
    found = likelihoods(pair.model, work, requests).nats
    for a, ablation in enumerate(work.ablations):
        for r, (context, option) in enumerate(requests):
            ids = torch.tensor([context + option])
            nats = pair.logits(ablation, ids)[0, len(context) - 1 : -1].double().log_softmax(-1)
            assert float(found[a, r]) == pytest.approx(float(nats.gather(-1, torch.tensor(option)[:, None]).sum()), abs=1e-4)


def test_load_and_weight_are_what_the_router_says(pair: Pair) -> None:
    """Against transformers' router; and what experts give, with what is beside them, is what the ffn adds."""
    model, lengths = pair.model, torch.full((3,), 37)
    found = measure(model, pair.ids, lengths, ["load", "router_weight", "l2"], kinds=["experts"])
    assert {values.shape for values in found.values()} == {(12, 3)}
    chosen = chosen_experts(pair.reference, pair.ids)
    assert not len(chosen[1])
    for row, i in ((0, 0), (6, 2)):
        counts = np.stack([[(chosen[i].view(3, 37, 2)[d] == e).sum() for d in range(3)] for e in range(6)])
        assert np.array_equal(found["load"][row : row + 6], counts)
        assert (found["l2"][row : row + 6][counts == 0] == 0).all()
        block = model.blocks[i]
        seen: list = []
        with torch.inference_mode():
            model.stream(pair.ids, tap=lambda _, parts, seen=seen: seen.append(parts))
            sent = block.route(seen[i].x_mid)
            total = sum(block.share(seen[i].x_mid, sent, e) for e in range(6)) + block.beside(seen[i].x_mid)
            assert torch.allclose(total, seen[i].delta_ffn, atol=1e-5)
        if block.renormalised:
            assert found["router_weight"][row : row + 6].sum() == pytest.approx(3 * 37)


def test_taylor_is_the_slope_of_what_an_expert_gives(pair: Pair) -> None:
    """By finite differences of its down projection, in fp64; where its tokens go does not change."""
    from adapters.contract.tools import cast

    model, ids, step = cast(pair.model, torch.float64), pair.ids[1:2, :11], 1e-5
    found = taylor(model, ids, torch.tensor([11]), kinds=["experts"], signed=True)[:, 0]
    down = model.blocks[2].weights["expert_down"]
    for e in range(6):
        losses = []
        for sign in (1, -1):
            changed = down.clone()
            changed[e] *= 1 - sign * step
            blocks = [*model.blocks[:2], model.blocks[2].with_weights(model.blocks[2].weights | {"expert_down": changed})]
            logits = model.with_blocks(blocks).run(ids)[0, :-1]
            losses.append(float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")))
        assert found[6 + e] == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-4, abs=1e-6)


def test_experts_go_as_many_from_each_block(pair: Pair) -> None:
    """Block 1 has none; an order is checked as all others are."""
    order, lengths = order_of("load", ["experts"]).thing, torch.full((3,), 37)
    batch = Batch([], pair.ids, lengths, (lengths - 1).numpy(), lengths.numpy())
    path = order.find(Calibration(pair.model, [batch]), 4)
    values = measure(pair.model, pair.ids, lengths, ["load"], kinds=["experts"])["load"].sum(1).reshape(2, 6)
    for n, out in enumerate(path):
        expected = {(i, e) for i, row in ((0, 0), (2, 1)) for e in values[row].argsort(kind="stable")[:n].tolist()}
        assert out == Ablation(experts=expected)
    order.check(path, pair.model.spec)
    with pytest.raises(ValueError, match=r"set 1 .* is not 1 of the experts"):
        order.check((path[0], Ablation(experts={(0, 0), (0, 1)})), pair.model.spec)


def test_metrics_of_experts_are_of_no_other_parts(pair: Pair, prose: Path) -> None:
    for name in EXPERT_METRICS:
        with pytest.raises(StrataError, match=f"{name} is of experts, and blocks, experts have no router: use `kinds` experts alone"):
            ImportanceStudy(pair.model, Text(corpus=str(prose)), (name,), ("blocks", "experts")).check()
        with pytest.raises(StrataError, match="of experts, and other parts have no router"):
            measure(pair.model, pair.ids, torch.full((3,), 37), [name])
    dense = Pair("llama", {}).model
    with pytest.raises(StrataError, match="has no experts: use `kinds` blocks, mixers or ffns"):
        ImportanceStudy(dense, Text(corpus=str(prose)), ("load",), ("experts",)).check()
