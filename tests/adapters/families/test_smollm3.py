"""SmolLM3 and Qwen 1.5 against transformers: layers without rotation, layers that slide."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters.families.llama import build
from tests.adapters.checkpoints.test_export import assert_reads_as_ablation
from tests.adapters.families.test_llama import block_shapes
from tests.adapters.published import published
from tests.reference.hf import tiny
from tests.reference.parity import parametrize_against_hf

SOME = {"no_rope_layers": [1, 0, 1]}


@parametrize_against_hf(
    "smollm3",
    {
        "some rotate": SOME,
        "and others slide": SOME | {"use_sliding_window": True, "sliding_window": 9, "attention_bias": True, "mlp_bias": True},
    },
    long=True,
)
def test_smollm3(check) -> None:
    check()


@parametrize_against_hf(
    "qwen2",
    {
        "last slide": {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
        "tied": {"tie_word_embeddings": True, "num_key_value_heads": 4},
    },
    long=True,
)
def test_qwen2(check) -> None:
    check()


def test_an_interval_is_written_out_for_the_blocks_that_stay(tmp_path: Path) -> None:
    tiny("smollm3", num_hidden_layers=5, no_rope_layer_interval=2).save_pretrained(tmp_path / "dense")
    path = tmp_path / "dense" / "config.json"
    config = json.loads(path.read_text())
    del config["no_rope_layers"]
    path.write_text(json.dumps(config))
    assert_reads_as_ablation(tmp_path / "dense", [0, 2], tmp_path / "out")
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["no_rope_layers"] == [0, 0, 1]
    assert "no_rope_layer_interval" not in written


SMOLLM3_3B = {
    "architectures": ["SmolLM3ForCausalLM"],
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "layer_types": ["full_attention"] * 36,
    "max_position_embeddings": 65536,
    "max_window_layers": 28,
    "mlp_bias": False,
    "model_type": "smollm3",
    "no_rope_layer_interval": 4,
    "no_rope_layers": [1, 1, 1, 0] * 9,
    "num_attention_heads": 16,
    "num_hidden_layers": 36,
    "num_key_value_heads": 4,
    "pad_token_id": 128004,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 5000000.0,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_sliding_window": False,
    "vocab_size": 128256,
}
QWEN_1_5_05B = {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_act": "silu",
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "max_position_embeddings": 32768,
    "max_window_layers": 21,
    "model_type": "qwen2",
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "num_key_value_heads": 16,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_sliding_window": False,
    "vocab_size": 151936,
}


@pytest.mark.parametrize(
    ("config", "kv", "n_params"),
    [
        pytest.param(SMOLLM3_3B, 512, 3_075_098_624, marks=pytest.mark.shows("smollm3", checkpoint="HuggingFaceTB/SmolLM3-3B")),
        pytest.param(QWEN_1_5_05B, 1024, 463_987_712, marks=pytest.mark.shows("qwen2", checkpoint="Qwen/Qwen1.5-0.5B")),
    ],
    ids=["SmolLM3-3B", "Qwen1.5-0.5B"],
)
def test_published_shapes(config: dict, kv: int, n_params: int) -> None:
    d = config["hidden_size"]
    shapes = block_shapes(d, kv, config["intermediate_size"], old=False)
    if config["model_type"] == "qwen2":
        shapes |= {"self_attn.q_proj.bias": (d,), "self_attn.k_proj.bias": (kv,), "self_attn.v_proj.bias": (kv,)}
    model = published(build, config, shapes)
    assert model.spec.n_params == n_params
    rotate = [block.rotation is not None for block in model.blocks]
    assert rotate == [bool(yes) for yes in config.get("no_rope_layers", [1] * len(rotate))]
