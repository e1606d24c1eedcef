"""Small GGUF files of models of Hugging Face, written as llama.cpp's converter writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tokenizers import pre_tokenizers
from transformers import PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<pad>")
TOKENS = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), "ab", "cd"]
SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
ADD = {int: "add_uint32", float: "add_float32", bool: "add_bool", str: "add_string", list: "add_array"}
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.layers": "blk",
}


def tiny(model_type: str = "llama", **changes: Any) -> PreTrainedModel:
    """A random model, its norms and biases too."""
    torch.manual_seed(0)
    sizes = SMALL | {"vocab_size": len(TOKENS), "max_position_embeddings": 64, "head_dim": 8, "pad_token_id": None}
    config = CONFIG_MAPPING[model_type](**(sizes | changes))
    model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config).float().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(1.0 if "norm" in name else 0.0, 0.3)
    model.tie_weights()
    return model


def header(model: PreTrainedModel, arch: str = "llama") -> dict[str, Any]:
    """Keys of the header as the converter writes them."""
    c = model.config
    values = {
        "context_length": c.max_position_embeddings,
        "embedding_length": c.hidden_size,
        "block_count": c.num_hidden_layers,
        "feed_forward_length": c.intermediate_size,
        "attention.head_count": c.num_attention_heads,
        "attention.head_count_kv": c.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": float(c.rms_norm_eps),
        "rope.freq_base": float(c.rope_parameters["rope_theta"]),
    }
    head_dim = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    values |= {"rope.dimension_count": head_dim, "attention.key_length": head_dim, "attention.value_length": head_dim}
    tokens = {"model": "gpt2", "pre": "smollm", "tokens": TOKENS, "token_type": [3] * 4 + [1] * 258, "merges": ["a b", "c d"]}
    tokens |= {"bos_token_id": 1, "eos_token_id": 2}
    return {f"{arch}.{key}": value for key, value in values.items()} | {f"tokenizer.ggml.{key}": value for key, value in tokens.items()}


def tensors(model: PreTrainedModel, arch: str = "llama") -> dict[str, np.ndarray]:
    """Tensors by llama.cpp's names; of Llama's q and k the two halves of a head's rows are dovetailed."""
    found = {}
    for key, weight in model.state_dict().items():
        if key == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        name, values = key, weight.detach().numpy()
        for ours, theirs in NAMES.items():
            name = name.replace(ours, theirs)
        if arch == "llama" and ("attn_q." in name or "attn_k." in name):
            heads = model.config.num_attention_heads if "attn_q." in name else model.config.num_key_value_heads
            values = np.concatenate([half for head in np.split(values, heads) for half in np.stack(np.split(head, 2), 1)])
        found[name] = np.ascontiguousarray(values)
    return found


def write(
    path: Path,
    values: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    arch: str = "llama",
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    **options: Any,
) -> Path:
    """A file of these keys and tensors; matrices are of the given type. Keys whose value is None are left out."""
    writer = gguf.GGUFWriter(path, arch, **options)
    for key, value in values.items():
        if value is not None:
            getattr(writer, ADD[type(value)])(key, value)
    for name, array in tensors.items():
        if array.ndim == 2 and kind != gguf.GGMLQuantizationType.F32:
            writer.add_tensor(name, gguf.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def save(path: Path, model: PreTrainedModel, arch: str = "llama", changes: Mapping[str, Any] | None = None, **options: Any) -> Path:
    """The file of a model, with some keys of its header changed (without "ARCHITECTURE.") and others left out (None)."""
    own = {key if key.startswith(("tokenizer.", "general.")) else f"{arch}.{key}": value for key, value in (changes or {}).items()}
    return write(path, header(model, arch) | own, tensors(model, arch), arch, **options)
