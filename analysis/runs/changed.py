"""Models that no files hold as they are, in the identity of a run: without some blocks, or with others in their places."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from adapters.base import BlockModel


def model_hash(model: BlockModel) -> str:
    """Of all weights of a model in memory, block by block in its order, and of what its blocks hold beside them."""
    digest = hashlib.sha256()
    for part in (model.weights, *([type(block).__qualname__, block.spec, block.weights, block] for block in model.blocks)):
        for line in _bytes(part):
            digest.update(line)
    return digest.hexdigest()[:16]


def _bytes(value: Any) -> Iterator[bytes | memoryview]:
    if isinstance(value, Tensor):
        yield f"{tuple(value.shape)} {value.dtype}".encode()
        yield value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield str(key).encode()
            yield from _bytes(value[key])
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _bytes(item)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield field.name.encode()
            yield from _bytes(getattr(value, field.name))
    elif isinstance(value, (str, int, float, bool, type(None))):
        yield repr(value).encode()
