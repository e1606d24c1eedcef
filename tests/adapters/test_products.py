"""`dtype` mixed: products in bf16, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from adapters import load
from adapters.checkpoints.stock import by_transformers
from adapters.products import MATRICES, linear
from analysis.engine.ablations import single_ablations
from analysis.engine.plan import plan
from analysis.engine.sweep import sweep
from analysis.metrics.taylor import taylor
from tests.reference.families import FAMILIES, kinds, save


def random(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def test_factors_and_product_are_rounded_and_nothing_else() -> None:
    x, weight, bias = random(7, 64), random(5, 64, seed=1), 1e-4 * random(5, seed=2)
    narrow = weight.bfloat16()
    exact = x.bfloat16().double() @ narrow.double().T  # of eight bits each: a sum in fp64 has no error that matters
    found = linear(x, narrow, bias)
    assert found.dtype == torch.float32
    assert ((found - bias - exact).abs() <= exact.abs() * 2**-8 + 1e-6).all()
    assert torch.equal(linear(x, narrow, bias) - linear(x, narrow), (linear(x, narrow) + bias) - linear(x, narrow))
    assert torch.equal(linear(x, weight, bias), F.linear(x, weight, bias))


def send_to_all_experts(path: Path) -> None:
    """Each token, where there are any: of two that are as likely, rounding before the router would choose another."""
    config = path / "config.json"
    said = json.loads(config.read_text()) if config.is_file() else {}
    if "num_experts_per_tok" in said:
        number = said.get("num_local_experts") or said["num_experts"]
        config.write_text(json.dumps(said | {"num_experts_per_tok": number}))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family(name: str, tmp_path: Path) -> None:
    path = save(name, tmp_path)
    send_to_all_experts(path)
    model, exact = (load(path, device="cpu", dtype=dtype) for dtype in ("mixed", "float32"))
    ids = torch.randint(model.spec.vocab_size, (2, 30), generator=torch.Generator().manual_seed(5))
    assert (model.precision, model.dtype, exact.precision) == ("mixed", torch.float32, "float32")
    for block in model.blocks:
        narrow = {role for role, t in block.weights.items() if t.dtype == torch.bfloat16}
        assert narrow == block.weights.keys() & set(MATRICES)
    assert {t.dtype for t in model.weights.values()} == {torch.float32}
    every = plan(model.spec, single_ablations(model.spec, kinds(model.spec)))
    with torch.inference_mode():
        logits, expected = model.run(ids), exact.run(ids)
        error = (logits - expected).square().mean().sqrt() / expected.std()
        assert logits.dtype == torch.float32
        assert 1e-4 < error < 0.1  # with all in bf16 it is larger (`make gpu`)
        nll = (sweep(model, every, ids)["nll"] - sweep(exact, every, ids)["nll"]).abs().max() / 29
        assert 1e-7 < nll < 0.1
    found, wanted = (taylor(m, ids, torch.tensor([30, 30]), kinds=["blocks"]) for m in (model, exact))
    assert abs(found - wanted).max() < 0.2 * abs(wanted).max()


def test_what_is_said_of_it(tmp_path: Path) -> None:
    path = save("llama", tmp_path)
    assert load(path, device="cpu", dtype="mixed").computed_in == "float32 with products in bfloat16 on cpu"
    assert load(path, device="cpu", dtype="bfloat16").computed_in == "bfloat16 on cpu"
    assert load(path, device="cpu", dtype="mixed").with_blocks([]).precision == "mixed"


def test_transformers_in_bf16_is_further_off(tmp_path: Path) -> None:
    """The oracle of how much all of it in bf16 rounds: its stream, norms and softmax too."""
    path = save("llama", tmp_path)
    ids = torch.randint(97, (2, 30), generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        exact = by_transformers(path, ids, "cpu", "float32")
        errors = [
            float((logits.float() - exact).square().mean().sqrt())
            for logits in (load(path, device="cpu", dtype="mixed").run(ids), by_transformers(path, ids, "cpu", "bfloat16"))
        ]
    assert errors[0] < 0.8 * errors[1]
