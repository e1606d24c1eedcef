"""RWKV with the kernels of flash-linear-attention, where they are installed, and without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch

from adapters import BlockModel
from adapters.families.rwkv.model import build
from tests.gpu.kernels import kernels, without_kernels
from tests.gpu.timing import best
from tests.reference.rwkv_checkpoints import VERSIONS, random_checkpoint
from tests.reference.sizes import Unnamed

SIZES = {"blocks": 24, "heads": 16, "head_size": 64, "vocab": 65536, "rank": 64}  # about 0.4 billion parameters
TINY = {"blocks": 2, "heads": 2, "head_size": 8, "vocab": 61}


def section(device: torch.device, tiny: bool) -> Iterator[dict[str, Any]]:
    """Tokens a second of plain passes, in fp32 and bf16; kernels take fp32 alone."""
    documents, window = (2, 16) if tiny else (8, 512)
    for version_ in VERSIONS[-2:] if tiny else VERSIONS:
        for dtype in (torch.float32, torch.bfloat16):
            model = random_model(version_, device, dtype, TINY if tiny else SIZES)
            ids = torch.randint(model.spec.vocab_size, (documents, window)).to(device)
            for used in [True, False] if kernels(f"rwkv-{version_}", device) and dtype == torch.float32 else [False]:
                with nullcontext() if used else without_kernels():
                    seconds = best(partial(model.stream, ids), device)
                said = {"version": version_, "dtype": str(dtype).removeprefix("torch."), "kernels": used}
                yield said | {"tokens_per_second": ids.numel() / seconds}


def random_model(version_: str, device: torch.device, dtype: torch.dtype, sizes: dict[str, int]) -> BlockModel:
    made = random_checkpoint(version_, device=device.type, **sizes)
    return build({}, Unnamed(Path("random"), {k: tuple(t.shape) for k, t in made.items()}, made.__getitem__, device, dtype), "random")
