"""What parts that are taken out leave behind with the edit "mean": their means over calibration text."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adapters.base import BlockModel
from adapters.block import Parts
from adapters.errors import StrataError
from adapters.means import Means
from analysis.engine.tokens import counted

if TYPE_CHECKING:
    from analysis.data.batches import Batch


def with_means(model: BlockModel, means: Sequence[Means]) -> BlockModel:
    """The model with what its parts leave behind in ablations to means. Weights are shared; it goes with other blocks."""
    assert len(means) == len(model.blocks), "one for each block"
    other = copy.copy(model)
    other.means = [Means(*(None if t is None else t.to(model.device, model.dtype) for t in block)) for block in means]
    return other


@torch.inference_mode()
def part_means(model: BlockModel, batches: Iterable[Batch]) -> list[Means]:
    """Means over all real tokens of `batches`, in fp64: of what each mixer and ffn adds, and of every head's z.

    The first token counts as any other, though in many models its activations are far larger: in short windows it moves the means.
    Wang et al. (arXiv 2211.00593) ablate to such means. Raises StrataError on no text, and on a value that is not finite.
    """
    zero = torch.zeros((), dtype=torch.float64)
    sums, tokens = [[zero, zero, zero] for _ in model.blocks], 0
    for batch in batches:
        ids, lengths = batch.ids.to(model.device), batch.lengths.to(model.device)
        real = counted(ids, lengths, True)

        def tap(i: int, parts: Parts, real: Tensor = real) -> None:
            for n, t in enumerate((parts.z, parts.delta_mix, parts.delta_ffn)):
                if t is not None:
                    out = ~real.reshape(*real.shape, *(1,) * (t.dim() - 2))
                    sums[i][n] = sums[i][n] + t.double().masked_fill(out, 0).sum((0, 1)).cpu()

        model.stream(ids, lengths=lengths, tap=tap)
        tokens += int(lengths.sum())
    if not tokens:
        raise StrataError("mean ablation has no calibration text: give at least one document")
    found = []
    for i, (totals, block) in enumerate(zip(sums, model.blocks, strict=True)):
        if not all(torch.isfinite(total).all() for total in totals):
            raise StrataError(f"the means of block {i} of {model.spec.name} are not finite: look for damaged weights")
        there = (block.spec.n_heads is not None, block.spec.has_mixer, block.spec.has_ffn)
        found.append(Means(*(total / tokens if has else None for total, has in zip(totals, there, strict=True))))
    return found
