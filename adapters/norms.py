"""Norms over the last axis, in fp32 or better where they divide. Some have no weight."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Norm = Callable[[Tensor, Tensor | None, float, Tensor | None], Tensor]  # x (..., d), weight, eps, bias -> (..., d)


def rms_norm(x: Tensor, weight: Tensor | None, eps: float, bias: Tensor | None = None) -> Tensor:
    """Root mean square norm; there is no bias."""
    unit = _unit(x, eps).to(x.dtype)
    return unit if weight is None else weight * unit


def rms_norm_of_one_more(x: Tensor, weight: Tensor | None, eps: float, bias: Tensor | None = None) -> Tensor:
    """That of Gemma, which scales by 1 + weight, in fp32 too."""
    unit = _unit(x, eps)
    return (unit if weight is None else unit * (1 + weight.to(unit.dtype))).to(x.dtype)


def layer_norm(x: Tensor, weight: Tensor | None, eps: float, bias: Tensor | None = None) -> Tensor:
    """`weight` may have axes in front: a norm for each head, (heads, d)."""
    if weight is None or weight.dim() == 1:
        return F.layer_norm(x, x.shape[-1:], weight, bias, eps)
    return F.layer_norm(x, x.shape[-1:], None, None, eps) * weight


def _unit(x: Tensor, eps: float) -> Tensor:
    h = x.to(torch.promote_types(x.dtype, torch.float32))
    return h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + eps)
