"""StarCoder2 against transformers."""

from __future__ import annotations

import pytest

from adapters.families.starcoder2 import build
from tests.adapters.published import meta
from tests.reference.parity import parametrize_against_hf, refuses

VARIANTS = {
    "window": {"sliding_window": 9, "norm_epsilon": 0.1},  # texts are four windows long
    "no biases": {"use_bias": False, "tie_word_embeddings": True, "num_key_value_heads": 1},
}


@parametrize_against_hf("starcoder2", VARIANTS, long=True)
def test_starcoder2(check) -> None:
    check()


def test_other_keys_are_refused() -> None:
    refuses("starcoder2", {}, "does not explain: model.layers.0.mlp.c_fc.bias", use_bias=False)
    refuses("starcoder2", {}, "norm_epsilon is -1", norm_epsilon=-1.0)
    refuses("starcoder2", {}, "config.json says partial_rotary_factor 0.5, which is not supported", partial_rotary_factor=0.5)


STARCODER2_3B = {
    "activation_function": "gelu_pytorch_tanh",
    "architectures": ["Starcoder2ForCausalLM"],
    "attention_dropout": 0.1,
    "attention_softmax_in_fp32": True,
    "bos_token_id": 0,
    "embedding_dropout": 0.1,
    "eos_token_id": 0,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_size": 3072,
    "initializer_range": 0.018042,
    "intermediate_size": 12288,
    "layer_norm_epsilon": 1e-05,
    "max_position_embeddings": 16384,
    "mlp_type": "default",
    "model_type": "starcoder2",
    "norm_epsilon": 1e-05,
    "norm_type": "layer_norm",
    "num_attention_heads": 24,
    "num_hidden_layers": 30,
    "num_key_value_heads": 2,
    "residual_dropout": 0.1,
    "rope_theta": 999999.4420358813,
    "scale_attention_softmax_in_fp32": True,
    "scale_attn_weights": True,
    "sliding_window": 4096,
    "torch_dtype": "bfloat16",
    "use_bias": True,
    "use_cache": True,
    "vocab_size": 49152,
}


@pytest.mark.shows("starcoder2", checkpoint="bigcode/starcoder2-3b")
def test_published_shapes() -> None:
    d, ffn, kv = 3072, 12288, 256
    rows = {"self_attn.q_proj": (d, d), "self_attn.k_proj": (kv, d), "self_attn.v_proj": (kv, d), "self_attn.o_proj": (d, d)}
    rows |= {"mlp.c_fc": (ffn, d), "mlp.c_proj": (d, ffn), "input_layernorm": (d,), "post_attention_layernorm": (d,)}
    block = {f"{key}.weight": shape for key, shape in rows.items()} | {f"{key}.bias": shape[:1] for key, shape in rows.items()}
    ends = {"model.embed_tokens.weight": (49152, d), "model.norm.weight": (d,), "model.norm.bias": (d,)}
    model = meta(build, STARCODER2_3B, ends | {f"model.layers.{i}.{key}": shape for i in range(30) for key, shape in block.items()})
    assert model.spec.n_params == 3_030_371_328
    assert {(b.n_heads, b.n_kv_heads, b.head_dim) for b in model.spec.blocks} == {(24, 2, 128)}
    assert {block.attention.window for block in model.blocks} == {4096}
