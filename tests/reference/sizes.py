"""Models of real sizes with random weights, made where they are needed: on a card, or as shapes alone. Needs torch and transformers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from adapters import BlockModel
from adapters.checkpoints.layout import Store
from adapters.families.llama import build

LLAMA_2_7B = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "max_position_embeddings": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32000,
}
LLAMA_3_1B = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "max_position_embeddings": 8192,
    "num_attention_heads": 32,
    "num_hidden_layers": 16,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": True,
}


class Unnamed(Store):
    """Of random weights, which have no hash."""

    hash = ""


def keys(config: dict) -> dict[str, tuple[int, ...]]:
    """Of a Llama, as published files have them."""
    d, ffn, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    kv = d // config["num_attention_heads"] * config["num_key_value_heads"]
    block = {
        "input_layernorm": (d,),
        "mlp.down_proj": (d, ffn),
        "mlp.gate_proj": (ffn, d),
        "mlp.up_proj": (ffn, d),
        "post_attention_layernorm": (d,),
        "self_attn.k_proj": (kv, d),
        "self_attn.o_proj": (d, d),
        "self_attn.q_proj": (d, d),
        "self_attn.v_proj": (kv, d),
    }
    ends = {"model.embed_tokens.weight": (vocab, d), "model.norm.weight": (d,)}
    if not config.get("tie_word_embeddings"):
        ends["lm_head.weight"] = (vocab, d)
    return ends | {f"model.layers.{i}.{key}.weight": size for i in range(config["num_hidden_layers"]) for key, size in block.items()}


def tensor(size: tuple[int, ...], device: str | torch.device, dtype: torch.dtype) -> Tensor:
    """Random weights of a scale at which streams stay finite; a norm's are one."""
    if len(size) == 1:
        return torch.ones(size, device=device, dtype=dtype)
    return torch.empty(size, device=device, dtype=dtype).normal_(std=size[1] ** -0.5)


def llama(config: dict, device: str | torch.device, dtype: torch.dtype) -> BlockModel:
    said = {"model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5, "tie_word_embeddings": False} | config
    sizes, where = keys(config), torch.device(device)
    return build(said, Unnamed(Path("random"), sizes, lambda key: tensor(sizes[key], where, dtype), where, dtype), "random")
