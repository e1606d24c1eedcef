"""Importance of blocks from plain forward passes, measured on the stream while it passes by."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from adapters.base import BlockModel, Parts
from adapters.errors import StrataError, unknown

Measure = Callable[[Parts], Tensor]  # (D, T, d) parts of one block -> (D, T), in fp32 or better


def block_influence(parts: Parts) -> Tensor:
    """1 - cos(x_in, x_out) of every token (ShortGPT, arXiv 2403.03853v1, equation 2, before the expectation)."""
    return 1 - torch.cosine_similarity(parts.x_in.float(), parts.x_out.float(), dim=-1)


METRICS: dict[str, Measure] = {"bi": block_influence}


@torch.inference_mode()
def measure(model: BlockModel, ids: Tensor, lengths: Tensor, metrics: Iterable[str] = ("bi",)) -> dict[str, np.ndarray]:
    """Sums over the real tokens of each document, by metric: (blocks, D) in fp64.

    The last block is measured before the final norm, as any other. Raises StrataError on an unknown metric, and on a
    value that is not finite, naming block and document of the batch.
    """
    for name in metrics:
        if name not in METRICS:
            raise unknown("metric", name, METRICS)
    ids, lengths = ids.to(model.device), lengths.to(model.device)
    real = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
    sums = {name: np.zeros((len(model.blocks), len(ids))) for name in metrics}

    def tap(i: int, parts: Parts) -> None:
        for name, rows in sums.items():
            value = METRICS[name](parts).double().masked_fill(~real, 0).sum(1)
            if not torch.isfinite(value).all():
                document = int((~torch.isfinite(value)).nonzero()[0])
                raise StrataError(f"{name} of block {i} of {model.spec.name} is not finite in document {document} of the batch")
            rows[i] = value.cpu().numpy()

    model.stream(ids, lengths=lengths, tap=tap)
    return sums
