"""A GGUF file as the package gguf's reader takes it apart, and the logits of a transformers model of what it finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from tests.adapters.checkpoints import gguf_files
from tests.fuzz.references import IDS
from tests.fuzz.verdicts import Unread

CONFIG = {  # behind "ARCHITECTURE." -> transformers
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
}
OTHERS = (  # that are read here
    "rope.freq_base rope.dimension_count rope.scaling.type rope.scaling.factor rope.scaling.original_context_length rope.scale_linear "
    "attention.value_length attention.sliding_window"
).split()


def read(place: Path) -> Tensor:
    """Raises Unread on what llama.cpp has no key for, or reads otherwise than transformers can."""
    folder = place.parent if place.is_file() else place
    readers = [gguf.GGUFReader(path) for path in sorted(folder.glob("*.gguf"))]
    values = {name: field.contents() for name, field in readers[0].fields.items()}
    tensors = {t.name: gguf.dequantize(t.data, t.tensor_type) for reader in readers for t in reader.tensors}
    arch = values["general.architecture"]
    own = {key.removeprefix(f"{arch}."): value for key, value in values.items() if key.startswith(f"{arch}.")}
    config = {theirs: own.pop(key) for key, theirs in CONFIG.items() if key in own}
    config = {key: value[0] if isinstance(value, list) else value for key, value in config.items()}
    config["rms_norm_eps"] = float(config["rms_norm_eps"])
    if set(own) - set(OTHERS):
        raise Unread(f"{sorted(own)}")
    # As llama.cpp has it: linear where nothing is said, by a factor that has an older name too
    kind, factor = own.get("rope.scaling.type", "linear"), own.get("rope.scaling.factor", own.get("rope.scale_linear"))
    rope = {"rope_type": "default" if kind == "none" else kind, "rope_theta": own.get("rope.freq_base", 10000.0)}
    if kind != "none":
        rope["factor"] = float(factor or 1.0)
    if kind == "yarn":
        rope["original_max_position_embeddings"] = own["rope.scaling.original_context_length"]
    config |= {"vocab_size": len(tensors["token_embd.weight"]), "tie_word_embeddings": "output.weight" not in tensors, "pad_token_id": None}
    cfg = CONFIG_MAPPING[arch](**config, rope_parameters=rope)
    model = MODEL_FOR_CAUSAL_LM_MAPPING[type(cfg)](cfg).float().eval()
    state = {_key(name): torch.from_numpy(_halves(name, tensor, cfg, arch)) for name, tensor in tensors.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or set(missing) - {"lm_head.weight" if cfg.tie_word_embeddings else ""}:
        raise Unread(f"{missing} {unexpected}")
    with torch.no_grad():
        return model(IDS, use_cache=False).logits


def _key(name: str) -> str:
    for theirs, ours in gguf_files.NAMES.items():
        name = ".".join(theirs if part == ours else part for part in name.split("."))
    return name


def _halves(name: str, tensor: np.ndarray, cfg: Any, arch: str) -> np.ndarray:
    """Rows of Llama's queries and keys in two halves of each head, which lie dovetailed in the file."""
    heads = {"attn_q": cfg.num_attention_heads, "attn_k": cfg.num_key_value_heads}.get(name.split(".")[-2] if "." in name else "")
    if arch != "llama" or heads is None:
        return np.array(tensor, np.float32)
    return np.concatenate([np.concatenate([head[0::2], head[1::2]]) for head in np.split(np.array(tensor, np.float32), heads)])
