"""Granite against transformers."""

from __future__ import annotations

import pytest

from adapters.families.granite import build
from analysis.methods.study import known
from analysis.methods.table import METHODS
from tests.adapters.families.test_llama import block_shapes
from tests.adapters.published import published
from tests.reference.parity import Pair, parametrize_against_hf, refuses

FACTORS = {"embedding_multiplier": 3.0, "residual_multiplier": 0.4, "attention_multiplier": 0.15, "logits_scaling": 2.5}


@parametrize_against_hf(
    "granite",
    {
        "factors": FACTORS,
        "tied": FACTORS | {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
        "plain": {"attention_multiplier": 0.3},
    },
)
def test_granite(check) -> None:
    check()


def test_methods_that_know_no_factors_are_not_offered() -> None:
    model = Pair("granite", {"residual_multiplier": 0.4, "num_hidden_layers": 6}).model
    assert not {"slicegpt", "linear"} & set(known(model, tuple(METHODS)))


def test_factors_that_make_no_sense_are_refused() -> None:
    for key in FACTORS:
        refuses("granite", {}, f"{key} is 0.0, expected numbers above zero", **{key: 0.0})


GRANITE_2B = {
    "architectures": ["GraniteForCausalLM"],
    "attention_bias": False,
    "attention_multiplier": 0.015625,
    "embedding_multiplier": 12.0,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "logits_scaling": 8.0,
    "max_position_embeddings": 4096,
    "mlp_bias": False,
    "model_type": "granite",
    "num_attention_heads": 32,
    "num_hidden_layers": 40,
    "num_key_value_heads": 8,
    "residual_multiplier": 0.22,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "vocab_size": 49155,
}


@pytest.mark.shows("granite", checkpoint="ibm-granite/granite-3.0-2b-base")
def test_published_shapes() -> None:
    model = published(build, GRANITE_2B, block_shapes(2048, 512, 8192, old=False))
    assert model.spec.n_params == 2_533_531_648
    assert {(block.residual, block.attention.scale) for block in model.blocks} == {(0.22, 0.015625)}
