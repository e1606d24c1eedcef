"""OLMo 1 against transformers."""

from __future__ import annotations

import pytest

from adapters.families.olmo import build
from tests.adapters.families.test_llama import block_shapes
from tests.adapters.published import meta
from tests.reference.parity import Pair, parametrize_against_hf, refuses


@parametrize_against_hf("olmo", {"clipped": {"clip_qkv": 0.7}, "free": {"tie_word_embeddings": True, "attention_bias": True}})
def test_olmo(check) -> None:
    check()


def test_norms_have_no_weights() -> None:
    model = Pair("olmo", {}).model
    assert not [role for table in (model.weights, *(block.weights for block in model.blocks)) for role in table if "norm" in role]


def test_bounds_that_make_no_sense_are_refused() -> None:
    refuses("olmo", {}, "clip_qkv is -8.0, expected numbers above zero", clip_qkv=-8.0)


OLMO_1B = {
    "architectures": ["OlmoForCausalLM"],
    "attention_bias": False,
    "clip_qkv": None,
    "eos_token_id": 50279,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "max_position_embeddings": 2048,
    "model_type": "olmo",
    "num_attention_heads": 16,
    "num_hidden_layers": 16,
    "num_key_value_heads": 16,
    "pad_token_id": 1,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
    "vocab_size": 50304,
}


@pytest.mark.shows("olmo", checkpoint="allenai/OLMo-1B-hf")
def test_published_shapes() -> None:
    block = {key: shape for key, shape in block_shapes(2048, 2048, 8192, old=False).items() if "norm" not in key}
    shapes = {f"model.layers.{i}.{key}": shape for i in range(16) for key, shape in block.items()}
    model = meta(build, OLMO_1B, shapes | {"model.embed_tokens.weight": (50304, 2048)})
    assert model.spec.n_params == 1_176_764_416
    assert {(b.n_heads, b.head_dim, b.n_params) for b in model.spec.blocks} == {(16, 128, 67_108_864)}
