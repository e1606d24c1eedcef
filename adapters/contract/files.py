"""The check of a layout: what it writes is what it reads."""

from __future__ import annotations

from pathlib import Path

import torch

from adapters.base import BlockModel
from adapters.checkpoints.layout import Store


def check_files(model: BlockModel) -> None:
    """Weights that are written through the layout and read back are the same, roles in one tensor among them."""
    if model.layout is None:
        return
    tables = [model.weights, *(block.weights for block in model.blocks)]
    own = [{role: t for role, t in table.items() if role in slots} for table, slots in zip(tables, _slots(model), strict=True)]
    tensors = model.layout.write(own[0], own[1:])
    store = Store(Path("written"), {key: tuple(t.shape) for key, t in tensors.items()}, tensors.__getitem__, model.device, model.dtype)
    shapes = [{role: tuple(t.shape) for role, t in table.items()} for table in own]
    weights, blocks = model.layout.read(store, shapes[0], shapes[1:])
    for where, found, expected in zip(("the model", *map("block {}".format, range(len(blocks)))), [weights, *blocks], own, strict=True):
        for role, tensor in expected.items():
            assert torch.equal(found[role], tensor), f"{role} of {where} is not what was written"


def _slots(model: BlockModel) -> list:
    assert model.layout is not None
    return [model.layout.model, *[model.layout.block] * len(model.blocks)]
