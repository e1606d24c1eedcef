"""What goes up and down with the rise in loss without a part, document by document, and costs little: its first-order effect, its size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from adapters.ablation import Ablation
from adapters.base import BlockModel
from adapters.block import Parts
from analysis.data.batches import Batch
from analysis.engine.ablations import single_ablations
from analysis.metrics.taylor import TARGETS, taylor

# The share of what it does that every part adds where the gradient is taken. At the dense point of an RWKV single documents are nearly
# singular: the slope of their loss in the scale of all parts is -22 there, and -0.3 with 5 % less.
POINTS = {"rwkv": 0.95}
DENSE = 1.0
# The parts that are not small beside the stream: what is left of a gradient's estimate goes with how large they are.
SIZED = ("blocks", "ffns")


def point(model: BlockModel) -> float:
    return POINTS.get(model.spec.family, DENSE)


def first_order(model: BlockModel, ablations: Sequence[Ablation], batch: Batch) -> np.ndarray:
    """Estimated rises of the loss (ablations, D), in nats over the tokens that a sweep scores: a sum over the parts that are out.

    Raises StrataError where a model has no gradients, and as `analysis.metrics.taylor.taylor` does.
    """
    kinds = [kind for kind in TARGETS if any(kind in ablation.parts for ablation in ablations)]
    parts = single_ablations(model.spec, kinds)
    found = taylor(model, batch.ids, batch.lengths, kinds=kinds, signed=True, scale=point(model), first=batch.first)
    row = dict(zip(parts, found, strict=True))
    return np.stack([sum(row[part] for part in _singles(ablation)) for ablation in ablations])


@torch.inference_mode()
def sizes(model: BlockModel, ablations: Sequence[Ablation], batch: Batch) -> np.ndarray:
    """|v|^2 / |x|^2 (ablations, D) of what parts of SIZED add, v, and the stream behind them, x: sums over tokens and the parts out."""
    found: dict[Ablation, np.ndarray] = {}
    ids, lengths = batch.ids.to(model.device), batch.lengths.to(model.device)
    padding = torch.arange(ids.shape[1], device=model.device) >= lengths[:, None]

    def tap(i: int, parts: Parts) -> None:
        for kind in SIZED:
            removed, stream = TARGETS[kind](parts)
            assert removed is not None
            shares = (_squared(removed) / _squared(stream)).masked_fill(padding, 0)
            found[Ablation.from_json({kind: [i]})] = shares.sum(-1).cpu().numpy()

    model.stream(ids, lengths=lengths, tap=tap)
    return np.stack([sum(found[part] for part in _singles(ablation)) for ablation in ablations])


def _squared(x: Tensor) -> Tensor:
    return x.double().square().sum(-1)


def _singles(ablation: Ablation) -> list[Ablation]:
    """The single parts that an ablation takes out."""
    return [Ablation.from_json({kind: [index]}) for kind, indices in ablation.parts.items() for index in indices]
