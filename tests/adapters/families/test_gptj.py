"""GPT-J against transformers."""

from __future__ import annotations

import pytest

from adapters.families.gptj import build
from tests.adapters.published import meta
from tests.reference.parity import parametrize_against_hf, refuses

VARIANTS = {
    "partial": {"rotary_dim": 8, "n_inner": None},
    "whole": {"rotary_dim": 12, "n_inner": 80, "activation_function": "gelu", "layer_norm_epsilon": 0.1},
    "odd": {"rotary_dim": 30, "hidden_size": 176, "n_inner": None},  # 30 / 44 * 44 is less than 30 in floating point
}


@parametrize_against_hf("gptj", VARIANTS)
def test_gptj(check) -> None:
    check()


@pytest.mark.parametrize("said", [0, 7, 14, None, 8.0, "8"])
def test_a_rotation_that_makes_no_sense_is_refused(said: object) -> None:
    refuses("gptj", VARIANTS["partial"], "says rotary_dim .* expected an even number of the 12 channels of a head", rotary_dim=said)


def test_other_sizes_are_refused() -> None:
    refuses("gptj", VARIANTS["partial"], "n_head is 0, expected a whole number above zero|config.json is not valid", n_head=0)


GPT_J_6B = {
    "activation_function": "gelu_new",
    "architectures": ["GPTJForCausalLM"],
    "bos_token_id": 50256,
    "eos_token_id": 50256,
    "gradient_checkpointing": False,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "model_type": "gptj",
    "n_embd": 4096,
    "n_head": 16,
    "n_inner": None,
    "n_layer": 28,
    "n_positions": 2048,
    "rotary": True,
    "rotary_dim": 64,
    "scale_attn_weights": True,
    "tie_word_embeddings": False,
    "vocab_size": 50400,
}


@pytest.mark.shows("gptj", checkpoint="EleutherAI/gpt-j-6b")
def test_published_shapes() -> None:
    d, ffn, vocab = 4096, 16384, 50400
    block = {
        "attn.bias": (1, 1, 2048, 2048),
        "attn.masked_bias": (),
        **{f"attn.{name}_proj.weight": (d, d) for name in ("q", "k", "v", "out")},
        **dict.fromkeys(("ln_1.weight", "ln_1.bias"), (d,)),
        "mlp.fc_in.weight": (ffn, d),
        "mlp.fc_in.bias": (ffn,),
        "mlp.fc_out.weight": (d, ffn),
        "mlp.fc_out.bias": (d,),
    }
    ends = {"transformer.wte.weight": (vocab, d), "lm_head.weight": (vocab, d), "lm_head.bias": (vocab,)}
    ends |= dict.fromkeys(("transformer.ln_f.weight", "transformer.ln_f.bias"), (d,))
    model = meta(build, GPT_J_6B, ends | {f"transformer.h.{i}.{key}": shape for i in range(28) for key, shape in block.items()})
    assert model.spec.n_params == 6_050_882_784
    assert {(b.n_heads, b.head_dim, b.parallel) for b in model.spec.blocks} == {(16, 256, True)}
    assert model.config.rope_parameters["partial_rotary_factor"] == 0.25
