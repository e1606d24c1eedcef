"""A tiny random model of every model_type, as files: what runs wherever all of them should. Needs torch, transformers, safetensors."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file

from adapters.specs import ModelSpec
from tests.reference import variants
from tests.reference.hf import tiny
from tests.reference.rwkv_checkpoints import flash_linear_attention_7, random_checkpoint

GEMMA = {"head_dim": 12, "query_pre_attn_scalar": 7, "sliding_window": 9}
STOCK: dict[str, dict] = {  # what transformers has; a variant that differs much from Llama
    "llama": {},
    "mistral": {"sliding_window": 9},
    "qwen2": {},
    "qwen3": {"head_dim": 12},
    "gpt_neox": {},
    "gpt2": {},
    "olmo": {"clip_qkv": 0.7},
    "olmo2": {},
    "gemma2": GEMMA,
    "gemma3_text": GEMMA,
    "phi": {},
    "opt": {"ffn_dim": 80},
    "phi3": {"sliding_window": 9},
    "stablelm": {"use_parallel_residual": True},
    "starcoder2": {"sliding_window": 9},
    "falcon": {"ffn_hidden_size": 80, "alibi": True},
    "cohere": {"use_qk_norm": True},
    "gptj": {"rotary_dim": 8, "n_inner": 80},
    "glm": {"head_dim": 12},
    "glm4": {"head_dim": 12},
    "granite": {"residual_multiplier": 0.4, "attention_multiplier": 0.3},
    "mixtral": {"num_local_experts": 4},
    "qwen2_moe": {
        "num_experts": 5,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "shared_expert_intermediate_size": 40,
        "mlp_only_layers": [1],
    },
    "qwen3_moe": {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "head_dim": 12, "norm_topk_prob": True},
    "olmoe": {"num_experts": 6, "num_experts_per_tok": 2},
    "smollm3": {"no_rope_layers": [1, 0, 1]},
    "jamba": {"mamba_d_state": 4, "mamba_dt_rank": 6, "attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 4},
    "mamba": {"state_size": 8, "time_step_rank": 6},
    "falcon_mamba": {"state_size": 8, "time_step_rank": 6},
    "mamba2": {"state_size": 8, "num_heads": 4, "head_dim": 24, "n_groups": 1},
}
FLASH = "rwkv7 (flash-linear-attention)"  # the other layout of RWKV-7
FAMILIES = (*STOCK, *variants.VARIANTS, FLASH)


def save(name: str, folder: Path) -> Path:
    """Writes the files of one of FAMILIES; returns what `load` takes."""
    if name in STOCK:
        tiny(name, **STOCK[name]).save_pretrained(folder)
        return folder
    if name == FLASH:
        save_file(flash_linear_attention_7(random_checkpoint("7")), folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"model_type": "rwkv7", "hidden_size": 32, "head_dim": 16, "norm_eps": 1e-5}))
        return folder
    return variants.save(name, folder)


def kinds(spec: ModelSpec) -> list[str]:
    """The kinds of parts that a model has."""
    parts = ["mixers", "ffns"] if any(block.has_ffn for block in spec.blocks) else []  # the only part of a block is that block
    return ["blocks", *parts, *["heads"] * spec.has_heads, *["experts"] * spec.has_experts]


def model_type(name: str) -> str:
    """Of config.json, as `adapters.supported` has a row for it."""
    return name if name in STOCK else "rwkv7" if name == FLASH else "rwkv" if name in variants.RWKV else "baichuan"
