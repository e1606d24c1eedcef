"""OLMo 2 against transformers."""

from __future__ import annotations

import pytest

from adapters import StrataError
from adapters.families.olmo2 import build
from analysis.methods.study import known, skipped
from analysis.methods.table import METHODS
from analysis.removal.delete_heads import delete_heads
from tests.adapters.published import meta
from tests.reference.parity import Pair, parametrize_against_hf, refuses


@parametrize_against_hf("olmo2", {"grouped": {"attention_bias": True}, "tied": {"num_key_value_heads": 4, "tie_word_embeddings": True}})
def test_olmo2(check) -> None:
    check()


def test_heads_under_one_norm_are_ablated_and_not_deleted() -> None:
    model = Pair("olmo2", {"num_hidden_layers": 6}).model
    with pytest.raises(StrataError, match="one norm is over the queries or keys of all of them: ablate them"):
        delete_heads(model.blocks[0], [0])
    assert known(model, tuple(METHODS)) == ["shortgpt", "one_shot", "laco"]
    assert "Not available for olmo2 (it takes attention whose heads work one by one, and no experts): LLM-Pruner" in " ".join(
        skipped(model, tuple(METHODS))
    )


def test_other_keys_are_refused() -> None:
    refuses("olmo2", {}, "config.json says clip_qkv 8.0, which is not supported", clip_qkv=8.0)


OLMO2_1B = {
    "architectures": ["Olmo2ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "eos_token_id": 100257,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 8192,
    "max_position_embeddings": 4096,
    "model_type": "olmo2",
    "num_attention_heads": 16,
    "num_hidden_layers": 16,
    "num_key_value_heads": 16,
    "pad_token_id": 100277,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 500000,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "use_cache": True,
    "vocab_size": 100352,
}


@pytest.mark.shows("olmo2", checkpoint="allenai/OLMo-2-0425-1B")
def test_published_shapes() -> None:
    d, ffn, vocab = 2048, 8192, 100352
    block = {
        **dict.fromkeys((f"self_attn.{role}_proj.weight" for role in "qkvo"), (d, d)),
        **dict.fromkeys(("mlp.gate_proj.weight", "mlp.up_proj.weight"), (ffn, d)),
        "mlp.down_proj.weight": (d, ffn),
        **dict.fromkeys(("post_attention_layernorm.weight", "post_feedforward_layernorm.weight"), (d,)),
        **dict.fromkeys(("self_attn.q_norm.weight", "self_attn.k_norm.weight"), (d,)),
    }
    ends = {"model.embed_tokens.weight": (vocab, d), "lm_head.weight": (vocab, d), "model.norm.weight": (d,)}
    model = meta(build, OLMO2_1B, ends | {f"model.layers.{i}.{key}": shape for i in range(16) for key, shape in block.items()})
    assert model.spec.n_params == 1_484_916_736
    assert {(b.n_heads, b.head_dim, b.affine_heads) for b in model.spec.blocks} == {(16, 128, False)}
