"""Phi-3, 3.5 and 4 against transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adapters import StrataError, load
from adapters.contract import assert_close
from adapters.families.phi3 import build
from tests.adapters.published import meta
from tests.reference.hf import tiny
from tests.reference.parity import parametrize_against_hf, refuses

FACTORS = {"short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [2.0, 2.4, 2.8, 3.0]}  # of 8 channels of 12
LONG = {"rope_parameters": {"rope_type": "longrope", "rope_theta": 100.0, "partial_rotary_factor": 0.67, "attention_factor": 1.2} | FACTORS}
VARIANTS = {
    "short factors": LONG | {"tie_word_embeddings": True},
    "long factors": LONG | {"original_max_position_embeddings": 2, "sliding_window": 262144},
    "window": {"sliding_window": 9, "num_key_value_heads": 4},  # texts are four windows long
    "grouped": {"rms_norm_eps": 0.1, "hidden_act": "gelu"},
}


@parametrize_against_hf("phi3", VARIANTS, long=True)
def test_phi3(check) -> None:
    check()


def test_each_text_rotates_by_its_own_length(tmp_path: Path) -> None:
    """However long others of its batch are; it is not continued where its frequencies would change."""
    reference = tiny("phi3", **LONG, original_max_position_embeddings=16)
    reference.save_pretrained(tmp_path)
    model, lengths = load(tmp_path, dtype="float32", device="cpu"), [37, 11, 17, 16]
    ids = torch.randint(97, (4, 37), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        found = model.run(ids, lengths=torch.tensor(lengths))
        for row, n in enumerate(lengths):
            assert_close(found[row, :n], reference(ids[row : row + 1, :n], use_cache=False).logits[0])
    with pytest.raises(StrataError, match="a text goes on beyond 16 tokens, where all of it rotates otherwise"):
        model.begin(ids[:2, :5], start=torch.tensor([3, 12]))
    model.begin(ids[:2, :5], lengths=torch.tensor([5, 4]), start=torch.tensor([17, 12]))


def test_other_keys_are_refused() -> None:
    refuses("phi3", {}, "config.json says num_local_experts 16, which is not supported", num_local_experts=16)
    refuses("phi3", LONG, "config.json is not valid", rope_parameters=LONG["rope_parameters"] | {"long_factor": [1.0]})
    refuses("phi3", {}, "sliding_window is 0, expected a whole number above zero", sliding_window=0)


PHI3_MINI = {
    "architectures": ["Phi3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"},
    "bos_token_id": 1,
    "embd_pdrop": 0.0,
    "eos_token_id": 32000,
    "hidden_act": "silu",
    "hidden_size": 3072,
    "initializer_range": 0.02,
    "intermediate_size": 8192,
    "max_position_embeddings": 4096,
    "model_type": "phi3",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "original_max_position_embeddings": 4096,
    "pad_token_id": 32000,
    "resid_pdrop": 0.0,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "sliding_window": 2047,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 32064,
}
PHI4_MINI = PHI3_MINI | {  # its 48 factors are other numbers
    "bos_token_id": 199999,
    "eos_token_id": 199999,
    "full_attn_mod": 1,
    "interpolate_factor": 1,
    "lm_head_bias": False,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "pad_token_id": 199999,
    "partial_rotary_factor": 0.75,
    "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 48, "long_factor": [1.5] * 48},
    "sliding_window": 262144,
    "tie_word_embeddings": True,
    "vocab_size": 200064,
}


@pytest.mark.shows("phi3", checkpoint="microsoft/Phi-3-mini-4k-instruct")
@pytest.mark.parametrize(
    ("config", "n_params", "rotated"), [(PHI3_MINI, 3_821_079_552, 96), (PHI4_MINI, 3_836_021_760, 96)], ids=["Phi-3-mini", "Phi-4-mini"]
)
def test_published_shapes(config: dict, n_params: int, rotated: int) -> None:
    d, ffn, vocab = 3072, 8192, config["vocab_size"]
    head = d // config["num_attention_heads"]
    block = {
        "self_attn.qkv_proj.weight": (d + 2 * config["num_key_value_heads"] * head, d),
        "self_attn.o_proj.weight": (d, d),
        "mlp.gate_up_proj.weight": (2 * ffn, d),
        "mlp.down_proj.weight": (d, ffn),
        **dict.fromkeys(("input_layernorm.weight", "post_attention_layernorm.weight"), (d,)),
    }
    ends = {"model.embed_tokens.weight": (vocab, d), "model.norm.weight": (d,)}
    ends |= {} if config["tie_word_embeddings"] else {"lm_head.weight": (vocab, d)}
    model = meta(build, config, ends | {f"model.layers.{i}.{key}": shape for i in range(32) for key, shape in block.items()})
    assert model.spec.n_params == n_params
    assert {block.attention.window for block in model.blocks} == {config["sliding_window"]}
    _, ctx = model.begin(torch.zeros(1, 4, dtype=torch.long, device="meta"))
    assert {rotation.cos.shape[-1] for rotation in ctx.rotations.values()} == {rotated}
