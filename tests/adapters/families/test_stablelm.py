"""StableLM against transformers."""

from __future__ import annotations

import pytest

from adapters.families.stablelm import build
from tests.adapters.published import meta
from tests.reference.parity import parametrize_against_hf, refuses

VARIANTS = {
    "biases": {"use_qkv_bias": True, "layer_norm_eps": 0.1, "num_key_value_heads": 4, "partial_rotary_factor": 0.5},
    "parallel": {"use_parallel_residual": True, "tie_word_embeddings": True, "partial_rotary_factor": 0.34},
}


@parametrize_against_hf("stablelm", VARIANTS, long=True)
def test_stablelm(check) -> None:
    check()


def test_other_keys_are_refused() -> None:
    refuses("stablelm", {}, "does not explain: model.layers.0.post_attention_layernorm.bias", use_parallel_residual=True)
    refuses("stablelm", {}, "layer_norm_eps is -1", layer_norm_eps=-1.0)
    refuses("stablelm", {}, "config.json says alibi True, which is not supported", alibi=True)


STABLELM_2_1_6B = {
    "architectures": ["StableLmForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 100257,
    "eos_token_id": 100257,
    "hidden_act": "silu",
    "hidden_dropout": 0.0,
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 5632,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 4096,
    "model_type": "stablelm",
    "num_attention_heads": 32,
    "num_hidden_layers": 24,
    "num_key_value_heads": 32,
    "partial_rotary_factor": 0.25,
    "rope_scaling": None,
    "rope_theta": 10000,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "use_cache": True,
    "use_qkv_bias": True,
    "vocab_size": 100352,
}


def test_published_shapes() -> None:
    d, ffn, vocab = 2048, 5632, 100352
    block = {
        **{f"self_attn.{role}_proj.weight": (d, d) for role in "qkvo"},
        **{f"self_attn.{role}_proj.bias": (d,) for role in "qkv"},
        **dict.fromkeys(("mlp.gate_proj.weight", "mlp.up_proj.weight"), (ffn, d)),
        "mlp.down_proj.weight": (d, ffn),
        **{f"{norm}.{end}": (d,) for norm in ("input_layernorm", "post_attention_layernorm") for end in ("weight", "bias")},
    }
    ends = {"model.embed_tokens.weight": (vocab, d), "lm_head.weight": (vocab, d)}
    ends |= dict.fromkeys(("model.norm.weight", "model.norm.bias"), (d,))
    model = meta(build, STABLELM_2_1_6B, ends | {f"model.layers.{i}.{key}": shape for i in range(24) for key, shape in block.items()})
    assert model.spec.n_params == 1_644_515_328
    assert {(b.n_heads, b.head_dim, b.parallel) for b in model.spec.blocks} == {(32, 64, False)}
    assert model.config.rope_parameters["partial_rotary_factor"] == pytest.approx(0.25)
