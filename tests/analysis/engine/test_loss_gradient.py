"""The gradient of the loss at the head against autograd through all logits, in fp64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from analysis.engine import loss_gradient as module
from analysis.engine.loss_gradient import loss_gradient
from analysis.engine.pieces import PIECES
from tests.reference.models import pair


@pytest.mark.parametrize("blocks", [1, 7])
@pytest.mark.parametrize(
    ("model_type", "config"),
    [("llama", {}), ("gemma2", {"final_logit_softcapping": 2.0}), ("cohere", {"logit_scale": 0.3}), ("phi", {})],  # phi: with a bias
)
def test_as_autograd(model_type: str, config: dict[str, Any], blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = pair(model_type, "float64", **config)[0]
    rows, vocabulary = 11, model.spec.vocab_size
    monkeypatch.setitem(PIECES, "cpu", PIECES["cpu"]._replace(block=4 * 4 * vocabulary // blocks + 16))
    monkeypatch.setattr(module, "ROWS", 4)
    generator = torch.Generator().manual_seed(0)
    h = 3 * torch.randn(rows, model.spec.d_model, generator=generator, dtype=torch.float64)
    targets = torch.randint(vocabulary, (rows,), generator=generator)
    expected = h.clone().requires_grad_()
    F.cross_entropy(model.unembed(expected), targets, reduction="sum").backward()
    with torch.inference_mode():
        assert loss_gradient(model, h[:0], targets[:0]).shape == (0, model.spec.d_model)
    found = loss_gradient(model, h, targets)
    assert not found.requires_grad
    assert (found - expected.grad).abs().max() / expected.grad.std() < 1e-12
