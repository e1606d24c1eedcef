"""Taylor estimates against autograd on Hugging Face's model, document by document, in fp64."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from adapters import Ablation, BlockModel, StrataError
from adapters.checkpoints.layout import Store
from adapters.families.rwkv import build
from analysis.metrics.taylor import taylor
from tests.reference.pairs import NAMES, Pair, pair
from tests.reference.rwkv_checkpoints import random_checkpoint

KINDS = ("blocks", "mixers", "ffns", "heads")


@pytest.fixture(params=NAMES)
def both(request: pytest.FixtureRequest) -> Pair:
    return pair(request.param)


def by_hand(p: Pair, ids: Tensor) -> np.ndarray:
    """-v . dL/dv with masks on what modules add: dL/dmask at 1 is v . dL/dv."""
    layers, spec = p.reference.model.layers, p.model.spec.blocks[0]
    masks = {kind: torch.ones(len(layers), dtype=torch.float64, requires_grad=True) for kind in ("mixers", "ffns")}
    heads = torch.ones(len(layers), spec.n_heads, 1, dtype=torch.float64, requires_grad=True)
    blocks = torch.ones(len(layers), dtype=torch.float64, requires_grad=True)
    handles = []
    for i, layer in enumerate(layers):
        handles += [
            layer.self_attn.register_forward_hook(lambda _, a, out, i=i: (masks["mixers"][i] * out[0], *out[1:])),
            layer.mlp.register_forward_hook(lambda _, a, out, i=i: masks["ffns"][i] * out),
            layer.self_attn.o_proj.register_forward_pre_hook(
                lambda _, args, i=i: ((args[0].unflatten(-1, (spec.n_heads, -1)) * heads[i]).flatten(-2),)
            ),
            # as a vector that is added behind the block, whatever the block is
            layer.register_forward_hook(lambda _, args, out, i=i: out + (blocks[i] - 1) * (out - args[0]).detach()),
        ]
    try:
        logits = p.reference(ids, use_cache=False).logits[0, :-1]
        loss = -logits.log_softmax(-1).gather(1, ids[0, 1:, None]).sum()
        gradients = torch.autograd.grad(loss, [blocks, masks["mixers"], masks["ffns"], heads])
    finally:
        for handle in handles:
            handle.remove()
    return -torch.cat([g.flatten() for g in gradients]).numpy()


def test_equals_autograd_by_hand(both: Pair) -> None:
    expected = np.stack([by_hand(both, document) for document in both.documents], -1)
    signed = taylor(both.model, both.ids, both.lengths, kinds=KINDS, signed=True)
    n = len(both.model.blocks)
    for rows in (slice(0, n), slice(n, 2 * n), slice(2 * n, 3 * n), slice(3 * n, None)):
        assert np.abs(signed[rows] - expected[rows]).max() / expected[rows].std() < 2e-5
    assert np.array_equal(taylor(both.model, both.ids, both.lengths, kinds=KINDS), np.abs(signed))


def test_batched_equals_one_by_one(both: Pair) -> None:
    together = taylor(both.model, both.ids, both.lengths)
    alone = [taylor(both.model, document, torch.tensor([document.shape[1]]))[:, 0] for document in both.documents]
    assert np.abs(np.stack(alone, -1) - together).max() / together.std() < 2e-5


def rwkv(version: str, dtype: torch.dtype = torch.float32) -> BlockModel:
    weights = random_checkpoint(version)
    store = Store(Path("tiny"), {key: tuple(t.shape) for key, t in weights.items()}, weights.__getitem__, dtype=dtype)
    return build({}, store, "tiny")


@pytest.mark.parametrize("version", ["5.0", "5.2", "6", "7"])
def test_estimates_the_slope_of_a_small_removal(version: str) -> None:
    """A head of a recurrent model whose output is nearly nothing: the estimate is the loss's rise without it."""
    model = rwkv(version, torch.float64)
    first, *others = model.blocks
    o = first.weights["o"].clone()
    o[:, : first.spec.head_dim] *= 1e-5  # head 0
    model = model.with_blocks([replace(first, weights=first.weights | {"o": o}), *others])
    ids = torch.randint(model.spec.vocab_size, (1, 30), generator=torch.Generator().manual_seed(0))

    def nll(ablation: Ablation) -> float:
        return float(-model.run(ids, ablation)[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None]).sum())

    rise = nll(Ablation(heads={(0, 0)})) - nll(Ablation())
    assert taylor(model, ids, torch.tensor([30]), kinds=["heads"], signed=True)[0, 0] == pytest.approx(rise, rel=1e-3)


@pytest.mark.parametrize("version", ["5.2", "7"])
def test_of_a_model_in_which_all_parts_add_less(version: str) -> None:
    """Against finite differences: every part of every block in turn adds a little more and less, beside others that add 0.95."""
    model, n, step = rwkv(version, torch.float64), 14, 1e-5
    ids = torch.randint(model.spec.vocab_size, (2, n), generator=torch.Generator().manual_seed(0))
    lengths, first = torch.tensor([n, 9]), torch.tensor([1, 3])

    def nll(row: int, **adds: float) -> float:
        """Without what stands in front of `first`; `adds` are shares of block 1's mixer, ffn and first head."""
        x, ctx = model.begin(ids[row, None, : lengths[row]])
        for i, block in enumerate(model.blocks):
            share = {"mixer": 0.95, "ffn": 0.95, "head": 0.95, **(adds if i == 1 else {})}
            mixed = block.mix(x, ctx)
            head = block.project(mixed.z[:, :, :1], [0])
            delta = share["mixer"] * (mixed.delta - head) + share["mixer"] * share["head"] / 0.95 * head
            y = x + delta
            x = y + share["ffn"] * block.ffn(y, ctx)[0]
        logits = model.logits(x)[0, :-1].log_softmax(-1)
        each = -logits.gather(1, ids[row, 1 : lengths[row], None])[:, 0]
        return float(each[first[row] - 1 :].sum())

    found = taylor(model, ids, lengths, kinds=["mixers", "ffns", "heads"], signed=True, scale=0.95, first=first)
    blocks, heads = len(model.blocks), model.spec.blocks[0].n_heads
    rows = {"mixer": 1, "ffn": blocks + 1, "head": 2 * blocks + heads}
    for row in range(2):
        for part, at in rows.items():
            slope = (nll(row, **{part: 0.95 + step}) - nll(row, **{part: 0.95 - step})) / (2 * step)
            assert found[at, row] == pytest.approx(-0.95 * slope, rel=1e-5)


def test_leaves_the_model_as_it_is() -> None:
    p = pair("tiny")
    with torch.inference_mode():
        taylor(p.model, p.documents[1], torch.tensor([9]))
    assert not any(w.requires_grad for w in p.model.weights.values())
    assert not p.model.run(p.documents[1]).requires_grad


def test_bad_input() -> None:
    p = pair("tiny")
    with pytest.raises(StrataError, match="unknown kind 'head'"):
        taylor(p.model, p.ids, p.lengths, kinds=["head"])
    with pytest.raises(StrataError, match="no heads"):
        taylor(rwkv("4"), torch.zeros(1, 4, dtype=torch.long), torch.tensor([4]), kinds=["heads"])
