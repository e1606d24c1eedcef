"""OLMoE against transformers."""

from __future__ import annotations

import pytest

from adapters.families.olmoe import build
from tests.adapters.families.test_qwen_moe import attention, experts
from tests.adapters.published import published
from tests.reference.parity import EXPERTS, parametrize_against_hf

VARIANTS = {
    "two of eight experts": {"num_experts": 8, "num_experts_per_tok": 2},
    "clipped with biases and weights that sum to one": {
        "num_experts": 7,
        "num_experts_per_tok": 3,
        "clip_qkv": 0.8,
        "attention_bias": True,
        "norm_topk_prob": True,
    },
}


@parametrize_against_hf("olmoe", VARIANTS, also=EXPERTS)
def test_olmoe(check) -> None:
    check()


OLMOE_1B_7B = {
    "architectures": ["OlmoeForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "clip_qkv": None,
    "eos_token_id": 50279,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 1024,
    "max_position_embeddings": 4096,
    "model_type": "olmoe",
    "norm_topk_prob": False,
    "num_attention_heads": 16,
    "num_experts": 64,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 16,
    "num_key_value_heads": 16,
    "output_router_logits": False,
    "pad_token_id": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "router_aux_loss_coef": 0.01,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 50304,
}


@pytest.mark.shows("olmoe", checkpoint="allenai/OLMoE-1B-7B-0924")
def test_published_shapes() -> None:
    norms = {"self_attn.q_norm.weight": (2048,), "self_attn.k_norm.weight": (2048,)}
    spec = published(build, OLMOE_1B_7B, attention(2048, 2048, 2048) | norms | experts(64, 1024, 2048)).spec
    assert spec.n_params == 6_919_161_856
    assert spec.active_params == spec.n_params - 16 * 56 * 3 * 2048 * 1024 == 1_282_017_280
    assert {(b.n_experts, b.experts_per_token, b.d_expert, b.shared_expert) for b in spec.blocks} == {(64, 8, 1024, False)}
