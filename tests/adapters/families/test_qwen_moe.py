"""Qwen with experts against transformers."""

from __future__ import annotations

import pytest

from adapters.families.qwen_moe import build
from tests.adapters.published import published
from tests.reference.parity import EXPERTS, Pair, check_every_key, check_forward, check_pruned_files, parametrize_against_hf, refuses

SMALL = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 40}
QWEN2 = {**SMALL, "shared_expert_intermediate_size": 56}
VARIANTS_2 = {
    "an MLP beside two of six experts": QWEN2,
    "every second block with weights that sum to one": QWEN2
    | {"decoder_sparse_step": 2, "qkv_bias": False, "norm_topk_prob": True, "tie_word_embeddings": True},
    "windows": QWEN2
    | {"num_experts": 7, "num_experts_per_tok": 3, "use_sliding_window": True, "sliding_window": 9, "mlp_only_layers": [1]},
}
VARIANTS_3 = {
    "two of six experts": SMALL | {"head_dim": 12, "norm_topk_prob": True},
    "an MLP alone in block 1 and windows": SMALL
    | {"head_dim": 16, "attention_bias": True, "mlp_only_layers": [1], "use_sliding_window": True, "sliding_window": 9},
}


@parametrize_against_hf("qwen2_moe", VARIANTS_2, also=EXPERTS)
def test_qwen2_moe(check) -> None:
    check()


@parametrize_against_hf("qwen3_moe", VARIANTS_3, also=EXPERTS)
def test_qwen3_moe(check) -> None:
    check()


@pytest.mark.parametrize(("model_type", "config"), [("qwen2_moe", QWEN2), ("qwen3_moe", VARIANTS_3["two of six experts"])])
@pytest.mark.parametrize("check", [check_forward, check_pruned_files, check_every_key])
def test_no_experts_at_all(model_type: str, config: dict, check) -> None:
    p = Pair(model_type, config | {"num_experts": 0})
    assert not p.model.spec.has_experts
    check(p)


QWEN15_MOE = {
    "architectures": ["Qwen2MoeForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "decoder_sparse_step": 1,
    "eos_token_id": 151643,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 5632,
    "max_position_embeddings": 8192,
    "max_window_layers": 21,
    "model_type": "qwen2_moe",
    "moe_intermediate_size": 1408,
    "norm_topk_prob": False,
    "num_attention_heads": 16,
    "num_experts": 60,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 24,
    "num_key_value_heads": 16,
    "output_router_logits": False,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.001,
    "shared_expert_intermediate_size": 5632,
    "sliding_window": 32768,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
QWEN3_30B = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "decoder_sparse_step": 1,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 6144,
    "max_position_embeddings": 40960,
    "max_window_layers": 48,
    "mlp_only_layers": [],
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "num_attention_heads": 32,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "output_router_logits": False,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.001,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}


def experts(number: int, width: int, d: int) -> dict[str, tuple[int, ...]]:
    each = {"gate_proj": (width, d), "up_proj": (width, d), "down_proj": (d, width)}
    return {f"mlp.experts.{e}.{role}.weight": shape for e in range(number) for role, shape in each.items()} | {
        "mlp.gate.weight": (number, d)
    }


def attention(q: int, kv: int, d: int) -> dict[str, tuple[int, ...]]:
    matrices = {"q_proj": (q, d), "k_proj": (kv, d), "v_proj": (kv, d), "o_proj": (d, q)}
    norms = dict.fromkeys(("input_layernorm.weight", "post_attention_layernorm.weight"), (d,))
    return {f"self_attn.{role}.weight": shape for role, shape in matrices.items()} | norms


@pytest.mark.shows("qwen2_moe", checkpoint="Qwen/Qwen1.5-MoE-A2.7B")
def test_published_qwen2_moe() -> None:
    shared = {"gate_proj": (5632, 2048), "up_proj": (5632, 2048), "down_proj": (2048, 5632)}
    block = {
        **attention(2048, 2048, 2048),
        **{f"self_attn.{role}_proj.bias": (2048,) for role in "qkv"},
        **experts(60, 1408, 2048),
        **{f"mlp.shared_expert.{role}.weight": shape for role, shape in shared.items()},
        "mlp.shared_expert_gate.weight": (1, 2048),
    }
    spec = published(build, QWEN15_MOE, block).spec
    assert spec.n_params == 14_315_784_192
    assert spec.active_params == spec.n_params - 24 * 56 * 3 * 2048 * 1408 == 2_689_173_504
    assert {(b.n_experts, b.experts_per_token, b.d_expert, b.d_ffn, b.shared_expert) for b in spec.blocks} == {(60, 4, 1408, 5632, True)}


@pytest.mark.shows("qwen3_moe", checkpoint="Qwen/Qwen3-30B-A3B")
def test_published_qwen3_moe() -> None:
    norms = {"self_attn.q_norm.weight": (128,), "self_attn.k_norm.weight": (128,)}
    spec = published(build, QWEN3_30B, attention(4096, 512, 2048) | norms | experts(128, 768, 2048)).spec
    assert spec.n_params == 30_532_122_624
    assert spec.active_params == spec.n_params - 48 * 120 * 3 * 2048 * 768 == 3_353_032_704
    assert {(b.n_heads, b.n_kv_heads, b.n_experts, b.experts_per_token, b.d_ffn) for b in spec.blocks} == {(32, 4, 128, 8, 0)}


@pytest.mark.parametrize(
    ("says", "changes"),
    [
        ("per_token is 0, expected a whole number above zero", {"num_experts_per_tok": 0}),
        ("sent to 7 of 6 experts, expected no more than there are", {"num_experts_per_tok": 7}),
        ("decoder_sparse_step is 0, expected a whole number above zero", {"decoder_sparse_step": 0}),
        ("lacks the weight model.layers.0.mlp.experts.6.gate_proj.weight", {"num_experts": 8}),
    ],
)
def test_refuses(says: str, changes: dict) -> None:
    refuses("qwen2_moe", QWEN2, says, **changes)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scoring_func", "sigmoid"),
        ("topk_method", "noaux_tc"),
        ("router_type", "sinkhorn"),
        ("n_group", 2),
        ("topk_group", 2),
        ("routed_scaling_factor", 2.5),
        ("n_shared_experts", 2),
    ],
)
def test_other_routers_are_refused_by_name(key: str, value: object) -> None:
    refuses("qwen2_moe", QWEN2, f"config.json says {key} {value!r}, which is not supported", **{key: value})
