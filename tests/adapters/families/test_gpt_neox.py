"""GPT-NeoX and Pythia against transformers."""

from __future__ import annotations

import pytest

from adapters.families.gpt_neox import build
from tests.adapters.published import meta
from tests.reference.parity import parametrize_against_hf, refuses

VARIANTS = {
    "parallel": {},
    "sequential": {
        "use_parallel_residual": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 1.0},
    },
    "tied": {"tie_word_embeddings": True, "attention_bias": False, "hidden_act": "gelu_new", "layer_norm_eps": 0.1},
}


@parametrize_against_hf("gpt_neox", VARIANTS)
def test_gpt_neox(check) -> None:
    check()


def test_other_keys_are_refused() -> None:
    refuses("gpt_neox", {}, "config.json says alibi True, which is not supported", alibi=True)
    refuses("gpt_neox", {}, "layer_norm_eps is -1", layer_norm_eps=-1.0)


PYTHIA_160M = {
    "architectures": ["GPTNeoXForCausalLM"],
    "bos_token_id": 0,
    "eos_token_id": 0,
    "hidden_act": "gelu",
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 2048,
    "model_type": "gpt_neox",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "rotary_emb_base": 10000,
    "rotary_pct": 0.25,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "use_cache": True,
    "use_parallel_residual": True,
    "vocab_size": 50304,
}


def keys(d: int, ffn: int, vocab: int, blocks: int) -> dict[str, tuple[int, ...]]:
    block = {
        "attention.bias": (1, 1, 2048, 2048),
        "attention.dense.bias": (d,),
        "attention.dense.weight": (d, d),
        "attention.masked_bias": (),
        "attention.query_key_value.bias": (3 * d,),
        "attention.query_key_value.weight": (3 * d, d),
        "attention.rotary_emb.inv_freq": (8,),
        "input_layernorm.bias": (d,),
        "input_layernorm.weight": (d,),
        "mlp.dense_4h_to_h.bias": (d,),
        "mlp.dense_4h_to_h.weight": (d, ffn),
        "mlp.dense_h_to_4h.bias": (ffn,),
        "mlp.dense_h_to_4h.weight": (ffn, d),
        "post_attention_layernorm.bias": (d,),
        "post_attention_layernorm.weight": (d,),
    }
    ends = {"gpt_neox.embed_in.weight": (vocab, d), "embed_out.weight": (vocab, d)}
    ends |= dict.fromkeys(("gpt_neox.final_layer_norm.bias", "gpt_neox.final_layer_norm.weight"), (d,))
    return ends | {f"gpt_neox.layers.{i}.{key}": shape for i in range(blocks) for key, shape in block.items()}


@pytest.mark.shows("gpt_neox", checkpoint="EleutherAI/pythia-160m")
def test_published_shapes() -> None:
    model = meta(build, PYTHIA_160M, keys(768, 3072, 50304, 12))
    assert model.spec.n_params == 162_322_944
    assert {(b.n_heads, b.head_dim, b.parallel) for b in model.spec.blocks} == {(12, 64, True)}
    assert model.config.rope_parameters["partial_rotary_factor"] == pytest.approx(0.25)
