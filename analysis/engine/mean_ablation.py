"""What a head that is taken out leaves behind: nothing, or its mean over calibration text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adapters.base import BlockModel, Parts
from adapters.errors import StrataError
from adapters.wrapped import WrappedBlock
from analysis.engine.tokens import counted

if TYPE_CHECKING:
    from analysis.data.batches import Batch

FILLS = ("zero", "mean")


@dataclass(eq=False)
class MeanAblatedBlock(WrappedBlock):
    """A block whose heads, when they are taken out, leave their means behind."""

    means: Tensor  # (n_heads, head_dim), of z

    def project(self, z: Tensor, heads: Sequence[int] | None = None) -> Tensor:
        """Of `heads`: what differs from their means, so that subtracting it leaves these."""
        return super().project(z if heads is None else z - self.means[list(heads)], heads)


def filled(model: BlockModel, means: Sequence[Tensor]) -> BlockModel:
    """The model whose heads leave `means`, (n_heads, head_dim) for each block, when they are taken out."""
    blocks = [MeanAblatedBlock(block, mean.to(model.device, model.dtype)) for block, mean in zip(model.blocks, means, strict=True)]
    return model.with_blocks(blocks)


@torch.inference_mode()
def head_means(model: BlockModel, batches: Iterable[Batch]) -> list[Tensor]:
    """Mean z of every head over all real tokens of `batches`, (n_heads, head_dim) in fp64 for each block.

    Wang et al. (arXiv 2211.00593) ablate to such means.
    Raises StrataError on a model without heads, on no text, and on a value that is not finite.
    """
    if not model.spec.has_heads:
        raise StrataError(f"{model.spec.name} ({model.spec.variant}) has no heads whose mean could be left behind")
    sums, tokens = [torch.zeros((), dtype=torch.float64)] * len(model.blocks), 0
    for batch in batches:
        ids, lengths = batch.ids.to(model.device), batch.lengths.to(model.device)
        real = counted(ids, lengths, True)[..., None, None]

        def tap(i: int, parts: Parts, real: Tensor = real) -> None:
            assert parts.z is not None, "models without heads are refused"
            sums[i] = sums[i] + parts.z.double().masked_fill(~real, 0).sum((0, 1)).cpu()

        model.stream(ids, lengths=lengths, tap=tap)
        tokens += int(lengths.sum())
    if not tokens:
        raise StrataError("mean ablation has no calibration text: give at least one document")
    for i, total in enumerate(sums):
        if not torch.isfinite(total).all():
            raise StrataError(f"the mean of the heads of block {i} of {model.spec.name} is not finite: look for damaged weights")
    return [total / tokens for total in sums]
