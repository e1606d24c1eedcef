"""config.json of a GGUF file: every key of the header that changes the model is used, or the file is refused."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from adapters.checkpoints.gguf.header import Header
from adapters.checkpoints.gguf.tables import ARCHITECTURES, CLASSES, DESCRIPTIONS, GENERAL, NEUTRAL, ROPE_FREQS, SCALINGS, TOKENIZER, USED
from adapters.checkpoints.gguf.tensors import read_tensor
from adapters.errors import StrataError, unknown

LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}  # of all published models


def configuration(header: Header) -> dict[str, Any]:
    """What Hugging Face's config.json says, but for the tokenizer. Raises StrataError by name of what is not supported."""
    arch = header.value("general.architecture", str)
    if arch not in ARCHITECTURES:
        raise unknown(f"general.architecture of {header.path}", arch, ARCHITECTURES)
    _account_for_keys(header, arch)
    window = header.value(f"{arch}.attention.sliding_window", int, 0)
    model_type = "mistral" if arch == "llama" and window else arch
    config: dict[str, Any] = {
        **_sizes(header, arch),
        "architectures": [f"{CLASSES[model_type]}ForCausalLM"],
        "model_type": model_type,
        "hidden_act": "silu",
        "rms_norm_eps": header.value(f"{arch}.attention.layer_norm_rms_epsilon", float),
        "rope_theta": header.value(f"{arch}.rope.freq_base", float, 10000.0),
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "torch_dtype": "float32",
    }
    if model_type in ("llama", "qwen3"):  # the others have them always or never
        config["attention_bias"] = "blk.0.attn_q.bias" in header.tensors
    if model_type == "llama":
        config["mlp_bias"] = "blk.0.ffn_gate.bias" in header.tensors
    if window:
        config |= {"sliding_window": window} | ({} if arch == "llama" else {"use_sliding_window": True, "max_window_layers": 0})
    if config["rope_theta"] <= 0 or config["rms_norm_eps"] < 0 or window < 0:
        raise StrataError(f"{header.path}: a base, an epsilon or a window is below zero: the file is damaged; download it again")
    config["rope_scaling"] = _scaling(header, arch, config)
    return config


def _account_for_keys(header: Header, arch: str) -> None:
    """Raises StrataError on a key that is neither used nor known to change nothing."""
    for key, value in header.values.items():
        own, name = key.startswith(f"{arch}."), key.removeprefix(f"{arch}.")
        neutral = NEUTRAL.get(name, ()) if own else GENERAL.get(key)
        used = name in USED if own else neutral is None and key.startswith((TOKENIZER, *DESCRIPTIONS))
        if not used and value not in (neutral or ()):
            expected = f"expected {' or '.join(map(repr, neutral))}" if neutral else "which is not a key that is known here"
            raise StrataError(
                f"{header.path}: its header says {key!r:.80} = {value!r:.60}, {expected}: the model has a part that is not supported, "
                "or the file is damaged; use its original checkpoint"
            )


def _sizes(header: Header, arch: str) -> dict[str, int]:
    """Widths and counts under Hugging Face's names, when they fit each other."""
    size = partial(_size, header, arch)
    d, heads, blocks = size("embedding_length"), size("attention.head_count"), size("block_count")
    kv, head_dim = size("attention.head_count_kv", heads), size("attention.key_length", max(d // heads, 1))
    if heads % kv or head_dim % 2 or (d % heads and f"{arch}.attention.key_length" not in header.values):
        raise StrataError(f"{header.path}: {heads} heads over {kv} in a width of {d} do not fit: the file is damaged; download it again")
    if "token_embd.weight" not in header.tensors:
        raise StrataError(f"{header.path} lacks the tensor token_embd.weight: it is incomplete; download it again")
    vocab = header.tensors["token_embd.weight"].shape[0]
    for key, only in (("attention.value_length", head_dim), ("rope.dimension_count", head_dim), ("vocab_size", vocab)):
        if (found := size(key, only)) != only:
            why = "rows of the embedding" if only is vocab else "width of a head, all of which is rotated"
            raise StrataError(f"{header.path}: {arch}.{key} is {found}, only {only} is supported ({why}): use the original checkpoint")
    scale = header.value(f"{arch}.attention.scale", float, 0.0)
    if scale and not np.isclose(scale, head_dim**-0.5, rtol=1e-6):
        raise StrataError(f"{header.path}: {arch}.attention.scale is {scale:g}, only {head_dim**-0.5:g} is supported")
    return {
        "hidden_size": d,
        "intermediate_size": size("feed_forward_length"),
        "num_hidden_layers": blocks,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "head_dim": head_dim,
        "vocab_size": vocab,
        "max_position_embeddings": size("context_length"),
    }


def _size(header: Header, arch: str, key: str, default: int | None = None) -> int:
    """A number above zero. A list with an entry for each block is one number when all are alike."""
    found = header.values.get(f"{arch}.{key}", default)
    if isinstance(found, list) and len(set(found)) == 1:
        found = found[0]
    if isinstance(found, list):
        raise StrataError(f"{header.path}: {arch}.{key} differs between blocks: only models whose blocks are all alike are supported")
    if type(found) is int and found > 0:
        return found
    header.value(f"{arch}.{key}", int, default)
    raise StrataError(f"{header.path}: {arch}.{key} is {found!r:.60}, expected 1 or more: the file is damaged; download it again")


def _scaling(header: Header, arch: str, config: dict[str, Any]) -> dict[str, Any] | None:
    """`rope_scaling` of config.json, None where positions are taken as they are."""
    kind = header.value(f"{arch}.rope.scaling.type", str, "linear")
    if kind not in SCALINGS:
        raise unknown(f"{arch}.rope.scaling.type of {header.path}", kind, SCALINGS)
    factor = header.value(f"{arch}.rope.scaling.factor", float, header.value(f"{arch}.rope.scale_linear", float, 1.0)) or 1.0
    if factor < 0:
        raise StrataError(f"{header.path}: {arch}.rope.scaling.factor is {factor:g}: the file is damaged; download it again")
    scaling: dict[str, Any] | None = None if kind == "none" or factor == 1 else {"rope_type": kind, "factor": factor}
    if scaling and kind == "yarn":
        name, length = f"{arch}.rope.scaling.", config["max_position_embeddings"]
        scaling["original_max_position_embeddings"] = _size(header, arch, "rope.scaling.original_context_length", length)
        scaling["beta_fast"] = header.value(f"{name}yarn_beta_fast", float, 32.0)
        scaling["beta_slow"] = header.value(f"{name}yarn_beta_slow", float, 1.0)
    if arch != "llama" or ROPE_FREQS not in header.tensors:
        return scaling
    factors = read_tensor(header.tensors[ROPE_FREQS])
    if factors.shape != (config["head_dim"] // 2,) or not (np.isfinite(factors).all() and (factors > 0).all()):
        raise StrataError(f"{header.path}: {ROPE_FREQS} should hold {config['head_dim'] // 2} factors above zero: download it again")
    found = by_factors(factors, config)
    if scaling and found:
        raise StrataError(f"{header.path} scales positions twice, by its header and by {ROPE_FREQS}: use its original checkpoint")
    return scaling or found


def by_factors(factors: np.ndarray, config: dict[str, Any]) -> dict[str, Any] | None:
    """`rope_scaling` that divides each frequency by its factor: by Llama 3's rule where that gives these factors, else as a list."""
    if (factors == factors[0]).all():
        return None if factors[0] == 1 else {"rope_type": "linear", "factor": float(factors[0])}
    frequencies = config["rope_theta"] ** (-2 * np.arange(len(factors)) / config["head_dim"])
    low, high, length = LLAMA3.values()
    smooth = np.clip((length * frequencies / (2 * np.pi) - low) / (high - low), 0, 1)
    if np.allclose(factors, 1 / ((1 - smooth) / factors.max() + smooth), rtol=1e-5):
        return {"rope_type": "llama3", "factor": float(factors.max()), **LLAMA3}
    each = [float(factor) for factor in factors]
    return {
        "rope_type": "longrope",  # with the same list for short and long texts
        "short_factor": each,
        "long_factor": each,
        "factor": 1.0,
        "attention_factor": 1.0,
        "original_max_position_embeddings": config["max_position_embeddings"],
    }
