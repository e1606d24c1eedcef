"""GLM-4 against transformers."""

from __future__ import annotations

import pytest

from adapters.families.glm import build
from tests.adapters.published import published
from tests.reference.parity import parametrize_against_hf

VARIANTS = {
    "half rotate": {"head_dim": 12},
    "other part and tied": {
        "head_dim": 16,
        "attention_bias": False,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.25},
    },
}


@parametrize_against_hf("glm4", VARIANTS)
def test_glm4(check) -> None:
    check()


@parametrize_against_hf("glm", VARIANTS, long=True)
def test_glm(check) -> None:
    check()


GLM_9B = {
    "architectures": ["GlmForCausalLM"],
    "attention_bias": True,
    "attention_dropout": 0.0,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 13696,
    "max_position_embeddings": 131072,
    "model_type": "glm",
    "num_attention_heads": 32,
    "num_hidden_layers": 40,
    "num_key_value_heads": 2,
    "pad_token_id": 151329,
    "partial_rotary_factor": 0.5,
    "rms_norm_eps": 1.5625e-07,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 151552,
}


@pytest.mark.parametrize(
    ("model_type", "n_params"),
    [
        pytest.param("glm", 9_399_951_360, marks=pytest.mark.shows("glm", checkpoint="zai-org/glm-4-9b-hf")),
        pytest.param("glm4", 9_400_279_040, marks=pytest.mark.shows("glm4", checkpoint="zai-org/GLM-4-9B-0414")),
    ],
)
def test_published_shapes(model_type: str, n_params: int) -> None:
    d, ffn, kv = 4096, 13696, 256
    norms = ["input_layernorm", "post_attention_layernorm"] + ["post_self_attn_layernorm", "post_mlp_layernorm"] * (model_type == "glm4")
    block = {
        **{f"self_attn.{role}_proj.weight": (rows, d) for role, rows in (("q", d), ("k", kv), ("v", kv), ("o", d))},
        **{f"self_attn.{role}_proj.bias": (rows,) for role, rows in (("q", d), ("k", kv), ("v", kv))},
        "mlp.gate_up_proj.weight": (2 * ffn, d),
        "mlp.down_proj.weight": (d, ffn),
        **{f"{norm}.weight": (d,) for norm in norms},
    }
    model = published(build, GLM_9B | {"model_type": model_type}, block)
    assert model.spec.n_params == n_params
    assert {(b.n_heads, b.n_kv_heads, b.head_dim) for b in model.spec.blocks} == {(32, 2, 128)}
    assert model.config.rope_parameters["partial_rotary_factor"] == 0.5
