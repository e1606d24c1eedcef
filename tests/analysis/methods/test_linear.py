"""Linear replacement: against the map applied explicitly, numpy's least squares, and a span that is a linear map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from adapters import Ablation, BlockModel
from adapters.decoder import DecoderBlock
from adapters.errors import StrataError
from adapters.wrapped import WrappedBlock
from analysis.methods import linear
from analysis.methods.linear import fit, fold, straightest
from analysis.methods.method import UnreachableError, size, solve
from analysis.methods.table import METHODS
from analysis.metrics.spans import Span
from tests.analysis.methods.deep import BLOCKS, deep, text
from tests.reference.families import STOCK
from tests.reference.models import pair

VARIANTS = ["llama", "baichuan-7b", "baichuan2-13b", "rwkv-4", "rwkv-5.2", "rwkv-6", "rwkv-7"]
OTHERS = {
    "biased": ("llama", {"mlp_bias": True, "attention_bias": True}),
    "experts": ("mixtral", STOCK["mixtral"]),
    "an MLP beside experts": ("qwen2_moe", {key: value for key, value in STOCK["qwen2_moe"].items() if key != "mlp_only_layers"}),
}


class Mapped(WrappedBlock):
    """A block whose ffn's output goes through a map (d, d), in front of the gate where there is one."""

    def __init__(self, block, t: Tensor) -> None:
        super().__init__(block)
        self.t = t

    def ffn(self, x, ctx, past=None):
        weights = {role: w for role, w in self.block.weights.items() if role != "receptance"}
        m, past = replace(self.block, weights=weights).ffn(x, ctx, past)
        gate = self.block.gate(x, ctx) if "receptance" in self.block.weights else 1
        return gate * (m @ self.t), past


@pytest.mark.parametrize("variant", [*VARIANTS, *OTHERS])
def test_folding_is_the_map_on_the_ffn_s_output(variant: str) -> None:
    """Of experts, and of an MLP beside them, it is on what each gives: a token's weights of them come behind it."""
    model_type, config = OTHERS.get(variant, ("", {}))
    model = pair(model_type, "float64", **{"num_hidden_layers": BLOCKS} | config)[0] if config else deep(variant)
    d, ids = model.spec.d_model, text()[0].ids
    t = torch.eye(d) + torch.randn(d, d, generator=torch.Generator().manual_seed(0)) / d
    t = t.double()
    explicit = model.with_blocks([*model.blocks[:1], Mapped(model.blocks[1], t), *model.blocks[4:]])
    expected, found = explicit.run(ids), fold(model, (2, 2), t).run(ids)
    assert float((found - expected).abs().max() / expected.std()) < 1e-6
    at = Ablation(blocks=frozenset({2, 3}))
    same = fold(model, (2, 2), torch.eye(d, dtype=torch.float64))
    torch.testing.assert_close(same.run(ids), model.run(ids, at), msg="the identity is removal")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_fit_is_least_squares(variant: str) -> None:
    """By numpy on the streams of documents one by one; with a gate, channel after channel."""
    model, span, batches = deep(variant), (2, 2), text(12)
    rows = []
    for batch in batches:
        for ids, n in zip(batch.ids, batch.lengths.tolist(), strict=True):
            parts = []
            model.stream(ids[None, :n], tap=lambda i, p, parts=parts: parts.append(p))
            ctx = model.begin(ids[None, :n])[1]
            block = model.blocks[1]
            plain = replace(block, weights={role: w for role, w in block.weights.items() if role != "receptance"})
            m = plain.ffn(parts[1].x_mid, ctx)[0]
            rows.append([t[0].numpy() for t in (m, parts[1].delta_ffn, parts[3].x_out - parts[1].x_mid)])
    m, out, target = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    gate = out / m
    expected = np.stack([np.linalg.lstsq(m * gate[:, [c]], target[:, c], rcond=None)[0] for c in range(m.shape[1])], 1)
    found = fit(model, batches, span, damping=1e-12)
    assert np.abs(found.numpy() - expected).max() / expected.std() < 1e-4


def test_a_linear_span_is_replaced_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that adds a linear map of what the ffn before it gave, and that alone, leaves nothing to lose."""
    model, seen, original = deep("llama"), list[Tensor](), DecoderBlock.ffn
    w = torch.randn(48, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) / 48**0.5

    def remembering(self, x, ctx, past=None):
        out = original(self, x, ctx, past)
        if self is model.blocks[1]:
            seen.append(out[0])
        return out

    class Linear(WrappedBlock):
        def mix(self, x, ctx, past=None):
            return super().mix(x, ctx, past)._replace(delta=seen[-1] @ w)

        def ffn(self, x, ctx, past=None):
            return torch.zeros_like(x), None

    monkeypatch.setattr(DecoderBlock, "ffn", remembering)
    made = model.with_blocks([*model.blocks[:2], Linear(model.blocks[2]), *model.blocks[3:]])
    t, ids = fit(made, text(12), (2, 1), damping=1e-10), text()[0].ids
    torch.testing.assert_close(t, torch.eye(48, dtype=torch.float64) + w, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fold(made, (2, 1), t).run(ids), made.run(ids), rtol=1e-4, atol=1e-4)


def test_a_large_damping_is_removal() -> None:
    model = deep("llama")
    t = fit(model, text(12), (1, 3), damping=1e12)
    torch.testing.assert_close(t, torch.eye(model.spec.d_model, dtype=torch.float64), atol=1e-9, rtol=0)


def cosine(model: BlockModel, span: Span) -> float:
    """Mean angle of the streams at both ends of a span, document by document."""
    angles = []
    for batch in text():
        for ids, n in zip(batch.ids, batch.lengths.tolist(), strict=True):
            parts = []
            model.stream(ids[None, :n], tap=lambda i, p, parts=parts: parts.append(p))
            a, b = parts[span[0]].x_in[0, 1:], parts[sum(span) - 1].x_out[0, 1:]
            angles += torch.cosine_similarity(a, b, dim=-1).arccos().tolist()
    return sum(angles)


@pytest.mark.parametrize("variant", ["llama", "rwkv-5.2"])
def test_the_span_turns_the_stream_least(variant: str) -> None:
    model = deep(variant)
    for length in (1, 3, 5):
        spans = [(start, length) for start in range(1, BLOCKS - length + 1)]
        assert straightest(model, text(), length) == min(spans, key=lambda span: cosine(model, span))


@pytest.mark.parametrize("variant", VARIANTS)
def test_solved(variant: str) -> None:
    model, before = deep(variant), deep(variant).blocks[1].weights["down"].clone()
    solved = solve(METHODS["linear"], model, text(12), 2 / BLOCKS)
    assert solved.level == 2
    assert len(solved.model.blocks) == BLOCKS - 2
    assert solved.size == size(model, solved.model)
    assert abs(solved.size.block_params - 2 / BLOCKS) < 0.015
    changed = {id(b) for b in solved.model.blocks} - {id(b) for b in model.blocks}
    assert len(changed) == 1
    assert torch.equal(model.blocks[1].weights["down"], before)
    assert torch.isfinite(solved.model.run(text()[0].ids)).all()


def test_a_fit_that_would_take_days_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a gate there is one for every channel."""
    monkeypatch.setattr(linear, "MOST", 1e6)
    says = r"fitted channel by channel: 24 channels and \d+ calibration tokens take \d.* operations in fp64, of at most 1e\+06"
    with pytest.raises(UnreachableError, match=says):
        fit(deep("rwkv-6"), text(12), (1, 1))
    fit(deep("rwkv-7"), text(12), (1, 1))


def test_bad_input() -> None:
    model = deep("llama")
    with pytest.raises(StrataError, match="29 calibration tokens fit any linear map of 48 dimensions: give several times as many"):
        fit(model, text(2, 15), (1, 1))
    dead = replace(model.blocks[0], weights=model.blocks[0].weights | {"down": torch.zeros_like(model.blocks[0].weights["down"])})
    with pytest.raises(StrataError, match=r"the covariance of what the ffn of block 0 gives .* is singular .*it gives nothing"):
        fit(model.with_blocks([dead, *model.blocks[1:]]), text(12), (1, 1))
    broken = replace(dead, weights=dead.weights | {"down": dead.weights["down"] * torch.nan})
    with pytest.raises(StrataError, match=r"what the ffn of block 0 gives .* is not finite, .*: look for damaged weights"):
        fit(model.with_blocks([broken, *model.blocks[1:]]), text(12), (1, 1))
    low = model.blocks[0].weights["down"].clone()
    low[1] = low[0]
    flat = replace(model.blocks[0], weights=model.blocks[0].weights | {"down": low})
    degenerate = model.with_blocks([flat, *model.blocks[1:]])
    with pytest.raises(StrataError, match=r"is singular with a damping of 0: more calibration text .* linear.fit\(..., damping=1e-06\)$"):
        fit(degenerate, text(12), (1, 1), damping=0)
    assert torch.isfinite(fit(degenerate, text(12), (1, 1), damping=1e-6)).all()
    with pytest.raises(StrataError, match="once it is a WrappedBlock: do this before anything else is changed"):
        linear.fold(model.with_blocks([WrappedBlock(b) for b in model.blocks]), (1, 1), torch.eye(48, dtype=torch.float64))
