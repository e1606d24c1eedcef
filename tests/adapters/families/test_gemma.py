"""Gemma 2 and 3 against transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters.families.gemma import build
from tests.adapters.checkpoints.test_export import export
from tests.adapters.published import meta
from tests.reference.hf import tiny
from tests.reference.parity import parametrize_against_hf, refuses

SIZES = {"head_dim": 12, "query_pre_attn_scalar": 7, "sliding_window": 9}  # texts are four windows long
CAPS = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 1.5}
ROPES = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
    "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0},
}


@parametrize_against_hf(
    "gemma2", {"caps": SIZES | CAPS, "no caps": SIZES | dict.fromkeys(CAPS) | {"tie_word_embeddings": True, "head_dim": 16}}
)
def test_gemma2(check) -> None:
    check()


@parametrize_against_hf(
    "gemma3_text",
    {
        "two rotations": SIZES
        | {"rope_parameters": ROPES, "layer_types": ["sliding_attention", "full_attention"] * 2, "num_hidden_layers": 4},
        "cap": SIZES | {"final_logit_softcapping": 1.5},
    },
    long=True,
)
def test_gemma3(check) -> None:
    check()


def test_other_keys_are_refused() -> None:
    refuses("gemma2", SIZES, "use_bidirectional_attention True, which is not supported", use_bidirectional_attention=True)
    refuses("gemma2", SIZES, "no sliding_window", sliding_window=None)
    refuses("gemma3_text", SIZES, "unknown hidden_activation of tiny 'gelu_fast1'", hidden_activation="gelu_fast1")
    refuses("gemma3_text", SIZES, "attn_logit_softcapping 50.0, which is not supported", attn_logit_softcapping=50.0)
    refuses("gemma2", SIZES, "layers of the types chunked_attention", layer_types=["chunked_attention"] * 3)


@pytest.mark.parametrize("pattern", [2, 3])
def test_a_pattern_of_indices_is_written_out_for_the_blocks_that_stay(pattern: int, tmp_path: Path) -> None:
    """Published files say it by a number, from which transformers makes a list."""
    tiny("gemma3_text", **SIZES, num_hidden_layers=5).save_pretrained(tmp_path / "dense")
    path = tmp_path / "dense" / "config.json"
    config = json.loads(path.read_text())
    for key in ("layer_types", "_sliding_window_pattern"):
        config.pop(key)
    path.write_text(json.dumps(config | {"sliding_window_pattern": pattern}))
    model, _ = export(tmp_path / "dense", [0, 2], tmp_path / "out")
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    kinds = ["full_attention" if (i + 1) % pattern == 0 else "sliding_attention" for i in range(5)]
    assert written["layer_types"] == [kinds[i] for i in (1, 3, 4)]
    assert "sliding_window_pattern" not in written
    assert [block.attention.window for block in model.blocks] == [None if kind == "full_attention" else 9 for kind in kinds]


GEMMA2_2B = {
    "architectures": ["Gemma2ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attn_logit_softcapping": 50.0,
    "bos_token_id": 2,
    "cache_implementation": "hybrid",
    "eos_token_id": 1,
    "final_logit_softcapping": 30.0,
    "head_dim": 256,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 2304,
    "initializer_range": 0.02,
    "intermediate_size": 9216,
    "max_position_embeddings": 8192,
    "model_type": "gemma2",
    "num_attention_heads": 8,
    "num_hidden_layers": 26,
    "num_key_value_heads": 4,
    "pad_token_id": 0,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "torch_dtype": "float32",
    "use_cache": True,
    "vocab_size": 256000,
}
GEMMA3_270M = {
    "_sliding_window_pattern": 6,
    "architectures": ["Gemma3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attn_logit_softcapping": None,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "final_logit_softcapping": None,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 640,
    "initializer_range": 0.02,
    "intermediate_size": 2048,
    "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 3,
    "max_position_embeddings": 32768,
    "model_type": "gemma3_text",
    "num_attention_heads": 4,
    "num_hidden_layers": 18,
    "num_key_value_heads": 1,
    "pad_token_id": 0,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-06,
    "rope_local_base_freq": 10000.0,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "sliding_window": 512,
    "torch_dtype": "bfloat16",
    "use_bidirectional_attention": False,
    "use_cache": True,
    "vocab_size": 262144,
}


@pytest.mark.parametrize(
    ("config", "n_params", "windows"),
    [
        pytest.param(GEMMA2_2B, 2_614_341_888, [4096, None] * 13, marks=pytest.mark.shows("gemma2", checkpoint="google/gemma-2-2b")),
        pytest.param(
            GEMMA3_270M, 268_098_176, ([512] * 5 + [None]) * 3, marks=pytest.mark.shows("gemma3_text", checkpoint="google/gemma-3-270m")
        ),
    ],
    ids=["Gemma-2-2B", "Gemma-3-270M"],
)
def test_published_shapes(config: dict, n_params: int, windows: list) -> None:
    d, ffn, q, kv = (
        config["hidden_size"],
        config["intermediate_size"],
        config["num_attention_heads"] * 256,
        config["num_key_value_heads"] * 256,
    )
    names = ("input", "post_attention", "pre_feedforward", "post_feedforward")
    block = {
        "self_attn.q_proj.weight": (q, d),
        **dict.fromkeys(("self_attn.k_proj.weight", "self_attn.v_proj.weight"), (kv, d)),
        "self_attn.o_proj.weight": (d, q),
        **dict.fromkeys(("mlp.gate_proj.weight", "mlp.up_proj.weight"), (ffn, d)),
        "mlp.down_proj.weight": (d, ffn),
        **{f"{name}_layernorm.weight": (d,) for name in names},
    }
    if config["model_type"] == "gemma3_text":
        block |= dict.fromkeys(("self_attn.q_norm.weight", "self_attn.k_norm.weight"), (256,))
    ends = {"model.embed_tokens.weight": (config["vocab_size"], d), "model.norm.weight": (d,)}
    n = config["num_hidden_layers"]
    model = meta(build, config, ends | {f"model.layers.{i}.{key}": shape for i in range(n) for key, shape in block.items()})
    assert model.spec.n_params == n_params
    assert [block.attention.window for block in model.blocks] == windows
