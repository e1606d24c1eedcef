"""What goes up and down with the rise in loss without a part, document by document, and costs next to nothing: its first-order effect."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adapters.ablation import Ablation
from adapters.base import BlockModel
from analysis.data.batches import Batch
from analysis.engine.ablations import single_ablations
from analysis.metrics.taylor import TARGETS, taylor

# The share of what it does that every part adds where the gradient is taken. At the dense point of an RWKV single documents are nearly
# singular: the slope of their loss in the scale of all parts is -22 there, and -0.3 with 5 % less.
POINTS = {"rwkv": 0.95}
DENSE = 1.0


def point(model: BlockModel) -> float:
    return POINTS.get(model.spec.family, DENSE)


def first_order(model: BlockModel, ablations: Sequence[Ablation], batch: Batch) -> np.ndarray:
    """Estimated rises of the loss (ablations, D), in nats over the tokens that a sweep scores: a sum over the parts that are out.

    Raises StrataError where a model has no gradients, and as `analysis.metrics.taylor.taylor` does.
    """
    kinds = [kind for kind in TARGETS if any(kind in ablation.parts for ablation in ablations)]
    parts = single_ablations(model.spec, kinds)
    found = taylor(model, batch.ids, batch.lengths, kinds=kinds, signed=True, scale=point(model), first=batch.first)
    row = {part: i for i, part in enumerate(parts)}
    return np.stack([sum(found[row[part]] for part in _singles(ablation)) for ablation in ablations])


def _singles(ablation: Ablation) -> list[Ablation]:
    """The single parts that an ablation takes out."""
    return [Ablation.from_json({kind: [index]}) for kind, indices in ablation.parts.items() for index in indices]
