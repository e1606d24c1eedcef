"""config.json of every family. A mutant that describes another model has that model's number: the reference reads it too."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.core import Kind
from tests.fuzz.models import Model, judge, make
from tests.fuzz.mutations import json_file
from tests.fuzz.references import rwkv_logits

NAMES = (  # keys that transformers or other architectures know
    "num_labels layer_types sliding_window use_sliding_window max_window_layers rope_theta rope_scaling partial_rotary_factor "
    "attention_bias mlp_bias head_dim quantization_config is_causal logit_scale norm_head z_loss_weight torch_dtype dtype architectures "
    "auto_map tie_word_embeddings rms_norm_eps layer_norm_epsilon norm_eps group_norm_eps context_length max_position_embeddings "
    "model_max_length hidden_act pretraining_tp id2label rope_parameters original_max_position_embeddings num_key_value_heads "
    "attention_dropout vocab_size model_type num_attention_heads bos_token_id is_decoder is_encoder_decoder use_cache "
    "output_hidden_states return_dict attn_implementation _attn_implementation per_layer_config chunk_size_feed_forward tp_plan "
    "use_bidirectional_attention attention_chunk_size norm_type transformers_weights final_logit_softcapping num_experts"
).split()


BASES = [
    *("llama", "llama-tied", "mistral", "qwen2", "qwen3", "llama-linear", "llama-dynamic", "llama-yarn", "llama-llama3", "llama-longrope"),
    *("baichuan-7b", "baichuan2-7b", "baichuan-13b", "baichuan2-13b", "rwkv-6-safetensors", "rwkv-fla", "rwkv-hugging-face", "gptq"),
]


def _make(root: Path) -> dict[str, Model]:
    return {name: model._replace(reference=model.reference or rwkv_logits) for name, model in make(root, BASES).items()}


def _mutate(rng: Random, folder: Path, base: Any) -> str:
    return json_file(rng, folder / "config.json", NAMES)


def _documented(folder: Path, why: str) -> str:
    """Where no reference reads config.json, or the one that there is is not about all of it."""
    if "layer_norm_epsilon" in why:
        return "RWKV: an epsilon that is a whole number, which transformers refuses"
    if why.startswith("Unread: hidden_act"):
        return "Baichuan with another activation: transformers' own by that name, as for Llama"
    return ""


KIND = Kind(_make, _mutate, lambda folder, base: judge(folder, base, _documented))
