"""Removal paths: against sorting the importance table, and against greedy removal by brute force."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch

from adapters import NONE, Ablation, BlockModel
from adapters.contract import Recorder
from analysis.data.batches import Batch
from analysis.engine.ablations import single_ablations
from analysis.engine.pieces import PIECES
from analysis.engine.sweep import Room
from analysis.metrics.metrics import measure
from analysis.metrics.spans import all_spans, angular
from analysis.removal import greedy as greedily
from analysis.removal.greedy import greedy, greedy_flops
from analysis.removal.orders import ORDERS, Calibration, random_order
from analysis.removal.paths import nested
from tests.reference import variants
from tests.reference.models import pair

N = 5


def batches(model: BlockModel, n: int = 2) -> list[Batch]:
    generator = torch.Generator().manual_seed(3)
    ids = [torch.randint(0, 97, (2, 14), generator=generator) for _ in range(n)]
    lengths = torch.tensor([14, 9])
    return [Batch([], i, lengths, lengths.numpy() - 1, lengths.numpy()) for i in ids]


def llama() -> BlockModel:
    return pair("llama", num_hidden_layers=N)[0]


def loss(model: BlockModel, ablation: Ablation, text: Sequence[Batch]) -> float:
    """Nll summed over all documents, one run after the other."""
    total = 0.0
    for batch in text:
        firsts = [1] * len(batch.ids) if batch.first is None else batch.first.tolist()
        for row, length, first in zip(batch.ids, batch.lengths.tolist(), firsts, strict=True):
            logits = model.run(row[None, :length], ablation)[0]
            total += float(-logits.double().log_softmax(-1)[:-1].gather(-1, row[1:length, None])[first - 1 :].sum())
    return total


def divergence(model: BlockModel, ablation: Ablation, text: Sequence[Batch]) -> float:
    """KL from the dense model at every token that predicts a scored one, summed over all documents."""
    total = 0.0
    for batch in text:
        for row, n in zip(batch.ids, batch.lengths.tolist(), strict=True):
            dense, ablated = (model.run(row[None, :n], a)[0, : n - 1].double().log_softmax(-1) for a in (NONE, ablation))
            total += float(torch.nn.functional.kl_div(ablated, dense, log_target=True, reduction="sum"))
    return total


def brute_force(model: BlockModel, text: Sequence[Batch], parts: Sequence[Ablation], most: int) -> list[Ablation]:
    path = [NONE]
    for _ in range(most):
        left = [path[-1] | part for part in parts if path[-1] | part != path[-1]]
        path.append(min(left, key=lambda a: loss(model, a, text)))
    return path


@pytest.mark.parametrize("kinds", [("blocks",), ("mixers", "ffns")])
def test_greedy_is_greedy_by_brute_force(kinds: tuple[str, ...]) -> None:
    model = llama()
    text, parts = batches(model), single_ablations(model.spec, kinds)
    assert list(greedy(model, text, parts, len(parts) - 1)) == brute_force(model, text, parts, len(parts) - 1)


@pytest.mark.parametrize("variant", ["baichuan2-13b", "rwkv-4", "rwkv-7"])
def test_greedy_of_every_family(variant: str) -> None:
    model = variants.model(variant)
    text, parts = batches(model), single_ablations(model.spec, ["blocks"])
    assert list(greedy(model, text, parts, 2)) == brute_force(model, text, parts, 2)


def test_greedy_in_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams of no batch, or of the first alone, are kept between rounds; sweeps run in parts."""
    model = llama()
    text, parts = batches(model), single_ablations(model.spec, ["blocks"])
    expected = greedy(model, text, parts, N - 1)
    each = (N + 1) * 2 * 14 * model.spec.d_model * 4
    for room in (0, each):
        monkeypatch.setattr(greedily, "default_memory", lambda device, room=room: room)
        assert greedy(model, text, parts, N - 1) == expected
    monkeypatch.setattr(greedily, "default_memory", lambda device: 1 << 30)
    monkeypatch.setattr(greedily, "room_for", lambda memory, model, plan, *shape: Room(plan.minimum, PIECES["cpu"]))
    assert greedy(model, text, parts, N - 1) == expected


@pytest.mark.parametrize(("n", "most"), [(N, N - 1), (30, 8)])
def test_greedy_runs_each_rounds_tree_without_the_prefix_of_the_base(n: int, most: int) -> None:
    model = pair("llama", num_hidden_layers=n)[0]
    recorders = [Recorder(block) for block in model.blocks]
    text = batches(model, 1)
    path = greedy(model.with_blocks(recorders), text, single_ablations(model.spec, ["blocks"]), most)
    rounds, prefix = 0, 0
    for k in range(most):
        m = n - k  # blocks left: the base runs all of them, the one without the i-th those behind it
        rounds += m + m * (m - 1) // 2 - prefix
        (gone,) = path[k + 1].blocks - path[k].blocks
        prefix = len(set(range(gone)) - path[k].blocks)
    for runs in (sum(sum(r.mixed) for r in recorders), sum(sum(r.fed) for r in recorders)):
        assert runs == rounds * len(text[0].ids)
    assert rounds < sum(m * (m + 1) // 2 for m in range(n - most + 1, n + 1))


@pytest.mark.parametrize("n", [N, 12])
def test_greedy_of_sub_layers_runs_each_rounds_tree_without_the_prefix_of_the_base(n: int) -> None:
    """A model without mixer i leaves the base in front of its ffn i, one without ffn i behind it; the base's mixer i is run
    again for the latter, for streams are kept in front of blocks."""
    model, most = pair("llama", num_hidden_layers=n)[0], 8
    recorders = [Recorder(block) for block in model.blocks]
    text = batches(model, 1)
    path = greedy(model.with_blocks(recorders), text, single_ablations(model.spec, ["mixers", "ffns"]), most)
    mixed, fed, known = 0, 0, 0
    for before, after in pairwise(path):
        mixers, ffns = (set(range(n)) - before.blocks - out for out in (before.mixers, before.ffns))
        mixed += sum(i >= known or i in ffns for i in mixers) + sum(i > j for left in (mixers, ffns) for j in left for i in mixers)
        fed += sum(i >= known for i in ffns) + sum(i >= j for j in mixers for i in ffns) + sum(i > j for j in ffns for i in ffns)
        known = greedily.changed(before, after)
    assert sum(sum(r.mixed) for r in recorders) == mixed * len(text[0].ids)
    assert sum(sum(r.fed) for r in recorders) == fed * len(text[0].ids)


def test_tokens_in_front_of_the_first_that_is_scored_count_for_no_order() -> None:
    model = llama()
    text = [batch._replace(first=torch.tensor([9, 2]), tokens=np.array([5, 7])) for batch in batches(model)]
    parts = single_ablations(model.spec, ["blocks"])
    path = brute_force(model, text, parts, N - 1)
    assert path != brute_force(model, batches(model), parts, N - 1)
    assert list(greedy(model, text, parts, N - 1)) == path
    alone = [loss(model, part, text) - loss(model, NONE, text) for part in parts]
    assert Calibration(model, text).alone["nll"] - loss(model, NONE, text) == pytest.approx(alone, rel=1e-4)


@pytest.mark.parametrize("metric", ["bi", "relative_magnitude", "norm", "sequential", "reverse_order"])
def test_metric_orders_sort_the_importance_table(metric: str) -> None:
    model = llama()
    text = batches(model)
    values = np.sum([measure(model, b.ids, b.lengths, [metric])[metric].sum(1) for b in text], axis=0)
    found = ORDERS[metric].find(Calibration(model, text), N - 1)
    assert found == nested(np.argsort(values)[: N - 1].tolist())
    assert [len(a.blocks) for a in found] == list(range(N))


def test_sequential_and_reverse_order_are_table_3() -> None:
    c = Calibration(llama(), batches(llama()))
    assert [sorted(a.blocks) for a in ORDERS["sequential"].find(c, 3)] == [[], [0], [0, 1], [0, 1, 2]]
    assert [sorted(a.blocks) for a in ORDERS["reverse_order"].find(c, 2)] == [[], [4], [3, 4]]


def test_one_shot_orders_by_what_each_block_costs_alone() -> None:
    model = llama()
    text = batches(model)
    alone = [loss(model, Ablation(blocks=frozenset({i})), text) for i in range(N)]
    assert ORDERS["nll"].find(Calibration(model, text), N - 1) == nested(np.argsort(alone)[: N - 1].tolist())
    apart = [divergence(model, Ablation(blocks=frozenset({i})), text) for i in range(N)]
    assert np.argsort(apart).tolist() != np.argsort(alone).tolist()
    assert ORDERS["kl"].find(Calibration(model, text), N - 1) == nested(np.argsort(apart)[: N - 1].tolist())


def test_iterative_bi_measures_the_model_that_is_left() -> None:
    model = llama()
    text, out = batches(model), frozenset[int]()
    for found in ORDERS["iterative_bi"].find(Calibration(model, text), N - 1)[1:]:
        left = [i for i in range(N) if i not in out]
        changes: dict[int, list[float]] = {i: [] for i in left}
        for b in text:
            for row, n in zip(b.ids, b.lengths.tolist(), strict=True):
                streams: dict[int, tuple] = {}
                model.stream(row[None, :n], Ablation(blocks=out), tap=lambda i, p, s=streams: s.update({i: (p.x_in, p.x_out)}))
                for i in left:
                    x, y = (t.double() for t in streams[i])
                    changes[i] += (1 - torch.cosine_similarity(x, y, dim=-1))[0].tolist()
        out |= {min(left, key=lambda i: np.mean(changes[i]))}
        assert found.blocks == out


def test_angular_spans_are_the_straightest_of_each_length() -> None:
    model = llama()
    text = batches(model)
    sums = np.sum([angular(model, b.ids, b.lengths)["angular_last"].sum(1) for b in text], axis=0)
    of = dict(zip(all_spans(N), sums, strict=True))
    for k, found in enumerate(ORDERS["angular"].find(Calibration(model, text), N - 1)[1:], 1):
        first = min(found.blocks)
        assert found.blocks == frozenset(range(first, first + k))
        assert of[first, k] == min(value for (_, length), value in of.items() if length == k)


def test_random_orders_are_seeded_and_differ() -> None:
    assert random_order(8, 1) == random_order(8, 1) != random_order(8, 2)
    assert [len(a.blocks) for a in random_order(8, 1)] == list(range(8))


def test_costs_grow_with_what_is_measured() -> None:
    spec = llama().spec
    costs = {name: order.flops(spec, order.parts(spec) - 1) for name, order in ORDERS.items()}
    assert costs["bi"] < costs["iterative_bi"] < costs["greedy"] < costs["sublayers"]
    assert greedy_flops(spec, single_ablations(spec, ["blocks"]), 1) == costs["nll"]
