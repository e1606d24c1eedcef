"""Phi-1.5 and 2 against transformers."""

from __future__ import annotations

import pytest

from adapters.families.phi import build
from tests.adapters.published import meta
from tests.reference.parity import parametrize_against_hf, refuses

VARIANTS = {
    "norms of heads": {"qk_layernorm": True, "num_key_value_heads": 4, "layer_norm_eps": 0.1},
    "grouped": {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 100.0, "partial_rotary_factor": 0.34}},
    "tied": {"tie_word_embeddings": True, "hidden_act": "gelu"},
}


@parametrize_against_hf("phi", VARIANTS)
def test_phi(check) -> None:
    check()


def test_other_keys_are_refused() -> None:
    refuses("phi", {}, "config.json says alibi True, which is not supported", alibi=True)
    refuses("phi", {}, "lacks the weight model.layers.0.self_attn.q_layernorm.weight", qk_layernorm=True)
    refuses("phi", {}, "layer_norm_eps is -1", layer_norm_eps=-1.0)


PHI_2 = {
    "architectures": ["PhiForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 50256,
    "embd_pdrop": 0.0,
    "eos_token_id": 50256,
    "hidden_act": "gelu_new",
    "hidden_size": 2560,
    "initializer_range": 0.02,
    "intermediate_size": 10240,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 2048,
    "model_type": "phi",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "partial_rotary_factor": 0.4,
    "qk_layernorm": False,
    "resid_pdrop": 0.1,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "use_cache": True,
    "vocab_size": 51200,
}


@pytest.mark.shows("phi", checkpoint="microsoft/phi-2")
def test_published_shapes() -> None:
    d, ffn, vocab = 2560, 10240, 51200
    block = {
        **{f"self_attn.{name}.weight": (d, d) for name in ("q_proj", "k_proj", "v_proj", "dense")},
        **{f"self_attn.{name}.bias": (d,) for name in ("q_proj", "k_proj", "v_proj", "dense")},
        "mlp.fc1.weight": (ffn, d),
        "mlp.fc1.bias": (ffn,),
        "mlp.fc2.weight": (d, ffn),
        "mlp.fc2.bias": (d,),
        **dict.fromkeys(("input_layernorm.weight", "input_layernorm.bias"), (d,)),
    }
    ends = {"model.embed_tokens.weight": (vocab, d), "lm_head.weight": (vocab, d), "lm_head.bias": (vocab,)}
    ends |= dict.fromkeys(("model.final_layernorm.weight", "model.final_layernorm.bias"), (d,))
    model = meta(build, PHI_2, ends | {f"model.layers.{i}.{key}": shape for i in range(32) for key, shape in block.items()})
    assert model.spec.n_params == 2_779_683_840
    assert {(b.n_heads, b.head_dim, b.parallel) for b in model.spec.blocks} == {(32, 80, True)}
    assert model.config.rope_parameters["partial_rotary_factor"] == pytest.approx(0.4)
