"""Falcon against transformers."""

from __future__ import annotations

import pytest
import torch

from adapters.contract import assert_close
from adapters.families.falcon import build
from tests.adapters.published import meta
from tests.reference.parity import Pair, parametrize_against_hf, refuses

SIZES = {"ffn_hidden_size": 80}
NEW = SIZES | {"new_decoder_architecture": True, "num_kv_heads": 2}
VARIANTS = {
    "two norms": NEW,
    "multi-query": SIZES | {"bias": True, "layer_norm_epsilon": 0.1, "num_kv_heads": 4, "tie_word_embeddings": True},
    "one norm": NEW | {"num_ln_in_parallel_attn": 1, "activation": "gelu_new"},
    "linear biases": SIZES | {"parallel_attn": False, "multi_query": False, "alibi": True, "bias": True},
    "parallel linear biases": SIZES | {"alibi": True},
    "heads by themselves": SIZES | {"multi_query": False, "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 100.0}},
}


@parametrize_against_hf("falcon", VARIANTS)
def test_falcon(check) -> None:
    check()


def test_biases_are_rounded_as_in_published_code() -> None:
    """Where neither the slopes, of heads that are no power of two, nor positions beyond 256 are numbers of bf16."""
    p = Pair("falcon", SIZES | {"alibi": True, "num_attention_heads": 6})
    ids = torch.randint(97, (2, 700), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        assert_close(p.model.run(ids), p.reference(ids, use_cache=False).logits)


def test_other_keys_are_refused() -> None:
    refuses("falcon", SIZES, "config.json says partial_rotary_factor 0.5, which is not supported", partial_rotary_factor=0.5)
    refuses("falcon", NEW, "num_kv_heads", num_kv_heads=3)
    refuses("falcon", SIZES, "lacks the weight transformer.h.0.post_attention_layernorm.weight", parallel_attn=False)
    refuses("falcon", SIZES, "unknown activation of tiny 'gelu_fast1'", activation="gelu_fast1")


FALCON_7B = {
    "alibi": False,
    "apply_residual_connection_post_layernorm": False,
    "architectures": ["FalconForCausalLM"],
    "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_falcon.FalconConfig", "AutoModelForCausalLM": "modeling_falcon.FalconForCausalLM"},
    "bias": False,
    "bos_token_id": 11,
    "eos_token_id": 11,
    "hidden_dropout": 0.0,
    "hidden_size": 4544,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "model_type": "falcon",
    "multi_query": True,
    "new_decoder_architecture": False,
    "num_attention_heads": 71,
    "num_hidden_layers": 32,
    "parallel_attn": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 65024,
}
FALCON_40B = FALCON_7B | {
    "hidden_size": 8192,
    "new_decoder_architecture": True,
    "num_attention_heads": 128,
    "num_hidden_layers": 60,
    "num_kv_heads": 8,
}


@pytest.mark.shows("falcon", checkpoint="tiiuae/falcon-7b")
@pytest.mark.parametrize(
    ("config", "kv", "norms", "n_params"),
    [(FALCON_7B, 1, ["input_layernorm"], 6_921_720_704), (FALCON_40B, 8, ["ln_attn", "ln_mlp"], 41_303_293_952)],
    ids=["Falcon-7B", "Falcon-40B"],
)
def test_published_shapes(config: dict, kv: int, norms: list[str], n_params: int) -> None:
    d, vocab, n = config["hidden_size"], config["vocab_size"], config["num_hidden_layers"]
    block = {
        "self_attention.query_key_value.weight": (d + 2 * kv * 64, d),
        "self_attention.dense.weight": (d, d),
        "mlp.dense_h_to_4h.weight": (4 * d, d),
        "mlp.dense_4h_to_h.weight": (d, 4 * d),
        **{f"{norm}.{end}": (d,) for norm in norms for end in ("weight", "bias")},
    }
    ends = {"transformer.word_embeddings.weight": (vocab, d)}
    ends |= dict.fromkeys(("transformer.ln_f.weight", "transformer.ln_f.bias"), (d,))
    model = meta(build, config, ends | {f"transformer.h.{i}.{key}": shape for i in range(n) for key, shape in block.items()})
    assert model.spec.n_params == n_params
    assert {(b.n_heads, b.n_kv_heads, b.head_dim, b.parallel) for b in model.spec.blocks} == {(d // 64, kv, 64, True)}
