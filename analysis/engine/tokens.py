"""Which tokens count, and in which precision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adapters.errors import StrataError


def counted(ids: Tensor, lengths: Tensor, first_token: bool) -> Tensor:
    """Which tokens are measured (D, T). Raises StrataError when a document has none."""
    time = torch.arange(ids.shape[1], device=ids.device)
    real = (time < lengths[:, None]) & (time >= (0 if first_token else 1))
    if not real.any(1).all():
        raise StrataError("a document has no token to measure: leave empty ones out, and with first_token=False those of one token")
    return real


def require_finite(values: Tensor, what: str, names: Sequence[str] | None = None) -> None:
    """Raises StrataError when one of `values` (..., D) is not finite, naming the document."""
    if not torch.isfinite(values).all():
        document = int((~torch.isfinite(values)).nonzero()[0, -1])
        raise StrataError(f"{what} is not finite in document {names[document] if names else f'{document} of the batch'}")


def wide(x: Tensor) -> Tensor:
    """In fp32 or better: squares of fp16 values above 255 overflow, and bf16 holds three digits."""
    return x if x.dtype == torch.float64 else x.float()
