"""The tensors of a GGUF file under Hugging Face's keys: exactly those that the configuration needs, or the file is refused."""

from __future__ import annotations

import re
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapters.checkpoints.gguf.header import Entry, Header
from adapters.checkpoints.gguf.tables import BLOCK, INTERLEAVED, MODEL, ROPE_FREQS
from adapters.checkpoints.layout import Store
from adapters.errors import StrataError

BIASES = {"attention_bias": ("attn_q", "attn_k", "attn_v", "attn_output"), "mlp_bias": ("ffn_gate", "ffn_up", "ffn_down")}


def open_tensors(header: Header, config: dict[str, Any]) -> Store:
    """The tensors as fp32, read one at a time. Raises StrataError on one too many, one too few, and on a wrong shape or type."""
    arch = header.value("general.architecture", str)
    needed = _needed(header, config)
    keys = {_key(name): name for name in needed}
    if missing := [name for name in needed if name not in header.tensors]:
        raise StrataError(f"{header.path} lacks the tensor {missing[0]} ({len(missing)} in all): it is incomplete; download it again")
    unused = {ROPE_FREQS} if arch == "llama" else set()  # it went into the configuration
    if extra := [name for name in header.tensors if name not in needed and name not in unused]:
        raise StrataError(
            f"{header.path} holds the tensor {extra[0]!r:.60} ({len(extra)} such), which is not a part of {arch} models that is supported: "
            "use the model's original checkpoint"
        )
    for name, shape in needed.items():
        if (found := header.tensors[name].shape) != shape:
            raise StrataError(
                f"{header.path}: its tensor {name} is {found}, its header says {shape}: the file is damaged; download it again"
            )
        _require_readable(name, header.tensors[name])

    def read(key: str) -> Tensor:
        values = read_tensor(header.tensors[keys[key]])
        if arch in INTERLEAVED and (pair := re.search(r"self_attn\.([qk])_proj", key)):
            heads = config["num_attention_heads" if pair[1] == "q" else "num_key_value_heads"]
            values = values.reshape(heads, -1, 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
        return torch.from_numpy(np.ascontiguousarray(values))

    shapes = {key: needed[name] for key, name in keys.items()}
    return Store(header.path, shapes, read, sizes={key: 4 * prod(shape) for key, shape in shapes.items()})


def read_tensor(entry: Entry) -> np.ndarray:
    """One tensor as fp32."""
    from gguf import GGMLQuantizationType, dequantize

    rows = entry.shape[:-1]
    data = np.fromfile(entry.file, np.uint8, entry.nbytes, offset=entry.start).reshape(*rows, -1)
    return dequantize(data, GGMLQuantizationType(entry.kind)).astype(np.float32, copy=False)


def _needed(header: Header, config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes by GGUF's names of all tensors of a model of this configuration."""
    d, f, head_dim, blocks = (config[key] for key in ("hidden_size", "intermediate_size", "head_dim", "num_hidden_layers"))
    q, kv = config["num_attention_heads"] * head_dim, config["num_key_value_heads"] * head_dim
    found = {int(match[1]) for name in header.tensors if (match := re.match(r"blk\.(\d{1,9})\.", name))}
    if found != set(range(len(found))) or len(found) != blocks:
        raise StrataError(
            f"{header.path}: its header says {blocks} blocks, its tensors are of {len(found)} "
            f"(the last is {max(found, default=None)}): it is incomplete or damaged; download it again"
        )
    matrices: dict[str, tuple[int, ...]] = {"attn_q": (q, d), "attn_k": (kv, d), "attn_v": (kv, d), "attn_output": (d, q)}
    matrices |= {"ffn_gate": (f, d), "ffn_up": (f, d), "ffn_down": (d, f)}
    norms: dict[str, tuple[int, ...]] = {"attn_norm": (d,), "ffn_norm": (d,)}
    if config["model_type"] == "qwen3":
        norms |= {"attn_q_norm": (head_dim,), "attn_k_norm": (head_dim,)}
    biased = [name for key, names in BIASES.items() if config.get(key) for name in names]
    biased += ["attn_q", "attn_k", "attn_v"] if config["model_type"] == "qwen2" else []
    block = {f"{name}.weight": shape for name, shape in (matrices | norms).items()} | {
        f"{name}.bias": matrices[name][:1] for name in biased
    }
    embed = (config["vocab_size"], d)
    model = {"token_embd.weight": embed, "output_norm.weight": (d,)} | ({} if config["tie_word_embeddings"] else {"output.weight": embed})
    return model | {f"blk.{i}.{name}": shape for i in range(blocks) for name, shape in block.items()}


def _key(name: str) -> str:
    """Hugging Face's key of a tensor."""
    if name in MODEL:
        return MODEL[name]
    _, i, role, suffix = name.split(".")
    return f"model.layers.{i}.{BLOCK[role]}.{suffix}"


def _require_readable(name: str, entry: Entry) -> None:
    """Raises StrataError when `gguf` does not know how to read the type of a tensor."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

    kind = GGMLQuantizationType(entry.kind)
    try:
        dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:
        raise StrataError(
            f"{entry.file}: its tensor {name} is of the type {kind.name}, which is not read: use a file of another quantisation"
        ) from None
