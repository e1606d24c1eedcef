"""Tensors as safetensors files that are no larger than what may be held while writing."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from adapters.checkpoints.folders import write_json
from adapters.checkpoints.layout import Store

SHARD = 4 << 30  # bytes of one file: what is held while writing


def write_safetensors(store: Store, folder: Path) -> None:
    """One file, or shards with an index as Hugging Face writes them."""
    files: list[list[str]] = []
    tensors: dict[str, Tensor] = {}

    def flush() -> None:
        save_file(tensors, folder / f"part-{len(files)}", metadata={"format": "pt"})
        files.append(list(tensors))
        tensors.clear()

    total = 0
    for key in store.shapes:
        tensor = store.read(key).clone(memory_format=torch.contiguous_format)  # several may share one storage
        if tensors and sum(t.nbytes for t in tensors.values()) + tensor.nbytes > SHARD:
            flush()
        tensors[key], total = tensor, total + tensor.nbytes
    flush()
    if len(files) == 1:
        (folder / "part-0").rename(folder / "model.safetensors")
        return
    names = [f"model-{i + 1:05}-of-{len(files):05}.safetensors" for i in range(len(files))]
    for i, name in enumerate(names):
        (folder / f"part-{i}").rename(folder / name)
    weight_map = {key: name for keys, name in zip(files, names, strict=True) for key in keys}
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})
