"""StableLM against transformers."""

from __future__ import annotations

import pytest

from adapters.families.stablelm import build
from tests.adapters.published import meta
from tests.reference.parity import parametrize_against_hf, refuses

VARIANTS = {
    "norms of heads": {"qk_layernorm": True, "layer_norm_eps": 0.1, "partial_rotary_factor": 0.5},
    "biases": {"use_qkv_bias": True, "num_key_value_heads": 4, "partial_rotary_factor": 0.5},
    "parallel": {"use_parallel_residual": True, "tie_word_embeddings": True, "partial_rotary_factor": 0.34},
}


@parametrize_against_hf("stablelm", VARIANTS)
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
STABLELM_2_12B = STABLELM_2_1_6B | {
    "head_dim": 160,
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_hidden_layers": 40,
    "num_key_value_heads": 8,
    "qk_layernorm": True,
    "use_parallel_residual": True,
    "use_qkv_bias": False,
}


@pytest.mark.shows("stablelm", checkpoint="stabilityai/stablelm-2-1_6b")
@pytest.mark.parametrize(
    ("config", "n_params", "parallel"),
    [(STABLELM_2_1_6B, 1_644_515_328, False), (STABLELM_2_12B, 12_143_185_920, True)],
    ids=["StableLM-2-1.6B", "StableLM-2-12B"],
)
def test_published_shapes(config: dict, n_params: int, parallel: bool) -> None:
    d, ffn, vocab, head_dim = config["hidden_size"], config["intermediate_size"], 100352, config["hidden_size"] // 32
    rows = {"q": d, "k": config["num_key_value_heads"] * head_dim, "v": config["num_key_value_heads"] * head_dim}
    block = {
        **{f"self_attn.{role}_proj.weight": (n, d) for role, n in rows.items()},
        "self_attn.o_proj.weight": (d, d),
        **dict.fromkeys(("mlp.gate_proj.weight", "mlp.up_proj.weight"), (ffn, d)),
        "mlp.down_proj.weight": (d, ffn),
        **dict.fromkeys(("input_layernorm.weight", "input_layernorm.bias"), (d,)),
    }
    if parallel:
        block |= {f"self_attn.{role}_layernorm.norms.{h}.weight": (head_dim,) for role, n in (("q", 32), ("k", 8)) for h in range(n)}
    else:
        block |= {f"self_attn.{role}_proj.bias": (d,) for role in "qkv"}
        block |= dict.fromkeys(("post_attention_layernorm.weight", "post_attention_layernorm.bias"), (d,))
    ends = {"model.embed_tokens.weight": (vocab, d), "lm_head.weight": (vocab, d)}
    ends |= dict.fromkeys(("model.norm.weight", "model.norm.bias"), (d,))
    n = config["num_hidden_layers"]
    model = meta(build, config, ends | {f"model.layers.{i}.{key}": shape for i in range(n) for key, shape in block.items()})
    assert model.spec.n_params == n_params
    assert {(b.n_heads, b.head_dim, b.parallel) for b in model.spec.blocks} == {(32, head_dim, parallel)}
    assert model.config.rope_parameters["partial_rotary_factor"] == pytest.approx(0.25)
