"""Cohere against transformers."""

from __future__ import annotations

import pytest

from adapters.families.cohere import build
from analysis.removal.delete_heads import delete_heads
from tests.adapters.families.test_llama import block_shapes
from tests.adapters.published import published
from tests.reference.parity import Pair, parametrize_against_hf, refuses

VARIANTS = {
    "norms of heads": {"use_qk_norm": True, "tie_word_embeddings": True, "logit_scale": 0.3},
    "none": {"attention_bias": True, "num_key_value_heads": 4, "logit_scale": 2.0, "layer_norm_eps": 0.1},
}


@parametrize_against_hf("cohere", VARIANTS)
def test_cohere(check) -> None:
    check()


def test_heads_go_with_their_norms() -> None:
    block = Pair("cohere", {"use_qk_norm": True}).model.blocks[0]
    left = delete_heads(block, [0, 1, 3]).weights
    assert left["q_norms"].equal(block.weights["q_norms"][2:3])
    assert left["k_norms"].equal(block.weights["k_norms"][1:])


def test_factors_that_make_no_sense_are_refused() -> None:
    refuses("cohere", {}, "logit_scale is 0.0, expected numbers above zero", logit_scale=0.0)


AYA_8B = {
    "architectures": ["CohereForCausalLM"],
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "layer_norm_eps": 1e-05,
    "logit_scale": 0.0625,
    "max_position_embeddings": 8192,
    "model_type": "cohere",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rope_theta": 10000,
    "tie_word_embeddings": True,
    "torch_dtype": "float16",
    "use_qk_norm": False,
    "vocab_size": 256000,
}
COMMAND_R_PLUS = AYA_8B | {
    "hidden_size": 12288,
    "intermediate_size": 33792,
    "logit_scale": 0.8333333333333334,
    "max_position_embeddings": 131072,
    "num_attention_heads": 96,
    "num_hidden_layers": 64,
    "rope_theta": 75000000.0,
    "use_qk_norm": True,
}


@pytest.mark.shows("cohere", checkpoint="CohereLabs/aya-23-8B")
@pytest.mark.parametrize(
    ("config", "n_params"), [(AYA_8B, 8_028_033_024), (COMMAND_R_PLUS, 103_810_674_688)], ids=["Aya-23-8B", "Command-R+"]
)
def test_published_shapes(config: dict, n_params: int) -> None:
    heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
    block = block_shapes(config["hidden_size"], kv * 128, config["intermediate_size"], old=False)
    del block["post_attention_layernorm.weight"]
    if config["use_qk_norm"]:
        block |= {"self_attn.q_norm.weight": (heads, 128), "self_attn.k_norm.weight": (kv, 128)}
    model = published(build, config, block)
    assert model.spec.n_params == n_params
    assert {(b.n_heads, b.n_kv_heads, b.head_dim, b.parallel) for b in model.spec.blocks} == {(heads, kv, 128, True)}
