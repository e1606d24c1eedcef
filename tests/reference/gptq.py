"""GPTQ files written bit by bit in Python integers, and the weights that they stand for, as slow loops say."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from adapters.checkpoints.folders import write_json
from tests.reference.hf import tiny
from tests.reference.models import save_reader


class Linear(NamedTuple):
    """One quantised matrix."""

    codes: np.ndarray  # (in, out), 0 to 2^bits - 1
    zeros: np.ndarray  # (groups, out)
    scales: np.ndarray  # (groups, out), values that 16 bits hold
    group: np.ndarray  # (in,)


def random_linear(out: int, columns: int, *, bits: int, size: int, sym: bool, desc_act: bool, seed: int) -> Linear:
    rng, groups = np.random.default_rng(seed), columns // size
    codes = rng.integers(0, 1 << bits, (columns, out))
    zeros = np.full((groups, out), 1 << (bits - 1)) if sym else rng.integers(0, 1 << bits, (groups, out))
    scales = (rng.uniform(0.5, 1.5, (groups, out)) * 3 / (1 << bits) / columns**0.5).astype(np.float16)
    group = np.arange(columns) // size
    return Linear(codes, zeros, scales, rng.permutation(group) if desc_act else group)


def floats(linear: Linear) -> Tensor:
    """(out, in), one number after the other."""
    columns, out = linear.codes.shape
    weight = np.empty((out, columns))
    for i in range(columns):
        for o in range(out):
            g = linear.group[i]
            weight[o, i] = float(linear.scales[g, o]) * (int(linear.codes[i, o]) - int(linear.zeros[g, o]))
    return torch.from_numpy(weight).float()


def tensors(linear: Linear, bits: int, version: int) -> dict[str, Tensor]:
    """As a file holds them. In version 1 one is taken from each zero before it is packed, as GPTQModel does: from the whole word."""
    per, (columns, out), groups = 32 // bits, linear.codes.shape, len(linear.zeros)
    words = np.empty((columns // per, out), dtype=np.int64)
    for row in range(columns // per):
        for o in range(out):
            words[row, o] = sum(int(linear.codes[row * per + k, o]) << (bits * k) for k in range(per))
    zeros = np.empty((groups, out // per), dtype=np.int64)
    for g in range(groups):
        for column in range(out // per):
            word = sum(int(linear.zeros[g, column * per + k]) << (bits * k) for k in range(per))
            zeros[g, column] = (word - (version == 1) * sum(1 << (bits * k) for k in range(per))) % (1 << 32)
    return {
        "qweight": torch.from_numpy(words.astype(np.uint32).view(np.int32)),
        "qzeros": torch.from_numpy(zeros.astype(np.uint32).view(np.int32)),
        "scales": torch.from_numpy(linear.scales),
        "g_idx": torch.from_numpy(linear.group.astype(np.int32)),
    }


def save_gptq(
    folder: Path, *, bits: int = 4, size: int = 16, sym: bool = True, desc_act: bool = False, version: int = 1, reads: bool = False
) -> PreTrainedModel:
    """Writes a tiny quantised Llama, and returns Hugging Face's with the weights that it stands for. `reads`: with a tokenizer."""
    shape = {"hidden_size": 64, "intermediate_size": 96, "tie_word_embeddings": True}
    if reads:
        model = save_reader(folder, **shape)
        (folder / "model.safetensors").unlink()
    else:
        model = tiny(**shape)
        model.config.save_pretrained(folder)
    kept = {key: tensor.clone() for key, tensor in model.state_dict().items() if "_proj" not in key and key != "lm_head.weight"}
    for seed, (name, module) in enumerate(m for m in model.named_modules() if m[0].endswith("_proj")):
        out, columns = module.weight.shape
        linear = random_linear(out, columns, bits=bits, size=size or columns, sym=sym, desc_act=desc_act, seed=seed)
        module.weight.data = floats(linear)
        kept |= {f"{name}.{ending}": tensor.contiguous() for ending, tensor in tensors(linear, bits, version).items()}
        kept[f"{name}.bias"] = torch.zeros(out, dtype=torch.float16)  # as AutoGPTQ left them
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    config = {"quant_method": "gptq", "bits": bits, "group_size": size or -1, "sym": sym, "desc_act": desc_act}
    formats = {1: {}, 2: {"checkpoint_format": "gptq_v2"}}[version]
    write_json(folder / "config.json", model.config.to_dict() | {"quantization_config": config | formats})
    return model
