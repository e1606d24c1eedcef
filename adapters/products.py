"""Matrix products in a narrower type than the stream's: what `dtype` mixed is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MIXED = "mixed"  # name of a dtype: float32, but for products with the matrices of blocks, in NARROW
NARROW = torch.bfloat16
# roles that nearly all products of a block are with
MATRICES = (
    *("q", "k", "v", "o", "r", "g", "x", "b", "c", "out", "gate", "up", "down", "receptance"),
    *("expert_gate", "expert_up", "expert_down", "shared_gate", "shared_up", "shared_down"),
)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As F.linear; with a `weight` of another type in that, and back in the type of `x`, in which `bias` is added."""
    if x.dtype == weight.dtype:
        return F.linear(x, weight, bias)
    out = F.linear(x.to(weight.dtype), weight).to(x.dtype)
    return out if bias is None else out + bias
