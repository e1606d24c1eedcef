"""Mixtral against transformers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from adapters import load
from adapters.checkpoints.files import open_store
from adapters.contract.files import check_files
from adapters.families.mixtral import build
from tests.adapters.published import published
from tests.reference.parity import EXPERTS, Pair, check_deletion_of_experts, check_pruned_files, parametrize_against_hf

VARIANTS = {
    "two of six experts": {"num_local_experts": 6},
    "three of five and tied with a window": {
        "num_local_experts": 5,
        "num_experts_per_tok": 3,
        "sliding_window": 9,
        "tie_word_embeddings": True,
    },
}


@parametrize_against_hf("mixtral", VARIANTS, also=EXPERTS)
def test_mixtral(check) -> None:
    check()


MIXTRAL_8X7B = {
    "architectures": ["MixtralForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "model_type": "mixtral",
    "num_attention_heads": 32,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "output_router_logits": False,
    "rms_norm_eps": 1e-05,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.02,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 32000,
}


@pytest.mark.shows("mixtral", checkpoint="mistralai/Mixtral-8x7B-v0.1")
@pytest.mark.parametrize("fused", [False, True])
def test_published_shapes(fused: bool) -> None:
    d, ffn, kv = 4096, 14336, 1024
    each = {"w1": (ffn, d), "w2": (d, ffn), "w3": (ffn, d)}
    apart = {f"block_sparse_moe.experts.{e}.{name}.weight": shape for e in range(8) for name, shape in each.items()}
    apart["block_sparse_moe.gate.weight"] = (8, d)
    together = {"mlp.experts.gate_up_proj": (8, 2 * ffn, d), "mlp.experts.down_proj": (8, d, ffn), "mlp.gate.weight": (8, d)}
    block = {
        **{f"self_attn.{role}_proj.weight": (rows, d) for role, rows in (("q", d), ("k", kv), ("v", kv), ("o", d))},
        **dict.fromkeys(("input_layernorm.weight", "post_attention_layernorm.weight"), (d,)),
        **(together if fused else apart),
    }
    spec = published(build, MIXTRAL_8X7B, block).spec
    assert spec.n_params == 46_702_792_704
    assert spec.active_params == spec.n_params - 32 * 6 * 3 * d * ffn == 12_879_925_248


def test_experts_in_one_tensor(tmp_path: Path) -> None:
    """What transformers writes as it holds it in memory is the same model, block 0 with experts or not."""
    pair = Pair("mixtral", VARIANTS["two of six experts"])
    pair.reference.save_pretrained(tmp_path, save_original_format=False)
    other = load(tmp_path, dtype="float32", device="cpu")
    assert "model.layers.0.mlp.experts.gate_up_proj" in open_store(tmp_path).shapes
    for ours, theirs in zip(other.blocks, pair.model.blocks, strict=True):
        assert ours.weights.keys() == theirs.weights.keys()
        assert all(torch.equal(ours.weights[role], t) for role, t in theirs.weights.items())
    check_files(other)
    pair.model, pair.folder = other, SimpleNamespace(name=str(tmp_path))
    check_pruned_files(pair)
    check_deletion_of_experts(pair)
