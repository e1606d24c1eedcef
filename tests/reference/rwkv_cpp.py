"""Reads the files of rwkv.cpp (docs/FILE_FORMAT.md there) into BlinkDL's native layout."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

Q5_1 = 8  # the other data types that are read are FP32
_TRANSPOSED = tuple(f".att.{c}{n}" for c in ("w", "a", "v", "g", "time_maa_w", "time_decay_w") for n in "12")


def read(path: Path) -> dict[str, Tensor]:
    data, at = path.read_bytes(), 24
    tensors = {}
    while at < len(data):
        dims, length, kind = struct.unpack_from("<3i", data, at)
        shape = struct.unpack_from(f"<{dims}i", data, at + 12)[::-1]
        at += 12 + 4 * dims
        key = data[at : at + length].decode()
        at += length
        flat, size = (_q5_1 if kind == Q5_1 else _fp32)(data, at, int(np.prod(shape)))
        tensors[key], at = torch.from_numpy(flat.reshape(shape)), at + size
    return _native(tensors)


def _fp32(data: bytes, at: int, n: int) -> tuple[np.ndarray, int]:
    return np.frombuffer(data, np.float32, n, at).copy(), 4 * n


def _q5_1(data: bytes, at: int, n: int) -> tuple[np.ndarray, int]:
    """Blocks of 32 weights: scale, minimum, 32 high bits, 16 bytes with the low four bits of weights i and i + 16."""
    blocks = np.frombuffer(data, np.dtype([("d", "<f2"), ("m", "<f2"), ("high", "<u4"), ("low", "u1", 16)]), n // 32, at)
    low = np.concatenate([blocks["low"] & 15, blocks["low"] >> 4], 1)
    high = (blocks["high"][:, None] >> np.arange(32, dtype=np.uint32)) & 1
    weights = (low + 16 * high) * blocks["d"].astype(np.float32)[:, None] + blocks["m"].astype(np.float32)[:, None]
    return weights.astype(np.float32).ravel(), blocks.nbytes


def _native(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    out = {}
    for key, tensor in tensors.items():
        if key.endswith("x_rwkvag"):
            out |= {key.replace("x_rwkvag", f"x_{c}"): t.reshape(1, 1, -1) for c, t in zip("rwkvag", tensor, strict=True)}
        elif key.endswith("time_decay") and tensor.dim() == 3:  # of RWKV-6
            out[key] = tensor.reshape(1, 1, -1)
        else:
            out[key] = tensor.mT.contiguous() if key.endswith(_TRANSPOSED) else tensor
    return out
