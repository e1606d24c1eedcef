"""Tiny models of some depth, and text for them."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import torch

from adapters import BlockModel, load
from analysis.data.batches import Batch
from analysis.data.documents import Window
from tests.reference import baichuan
from tests.reference.models import pair
from tests.reference.rwkv_checkpoints import random_checkpoint

BLOCKS = 6


@cache
def deep(variant: str, dtype: str = "float64") -> BlockModel:
    if variant == "llama":
        return pair("llama", dtype, num_hidden_layers=BLOCKS)[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        if variant.startswith("rwkv"):
            path = path / f"{variant}.pth"
            torch.save(random_checkpoint(variant.removeprefix("rwkv-"), blocks=BLOCKS, head_size=12, vocab=97), path)
        else:
            config = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": BLOCKS}
            baichuan.save(path, *baichuan.tiny(**baichuan.KINDS[variant] | config))
        return load(path, device="cpu", dtype=dtype)


def text(n: int = 6, time: int = 30, seed: int = 0) -> list[Batch]:
    """Two batches of `n` documents of random tokens altogether, some of them padded."""
    ids = torch.randint(0, 97, (n, time), generator=torch.Generator().manual_seed(seed))
    lengths = torch.tensor([time - i % 3 for i in range(n)])
    windows = [Window(f"{seed}-{i}", 0, "") for i in range(n)]
    halves = [slice(0, n // 2), slice(n // 2, n)]
    return [Batch(windows[h], ids[h], lengths[h], lengths[h].numpy() - 1, lengths[h].numpy()) for h in halves]
