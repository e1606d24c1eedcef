"""What the checks share: texts, a measure of errors, and a block that counts."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from adapters.base import Advance, BlockModel
from adapters.block import Context, MixerOutput, Parts, Past
from adapters.wrapped import WrappedBlock

TIME = 37  # tokens of the longest row; no multiple of anything
LENGTHS = (TIME, 11, 20)
TOLERANCE = 2e-5  # of max error / standard deviation
ROUTING_FLIPS = 0.05  # share of the tokens of one stream that bfloat16 may send to other experts, where two are nearly as likely
FLIPPED_SOMEWHERE = 0.5  # ... of those of a whole model that some block of it may: a flip in one block changes what all behind it read


def assert_close(found: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    """Largest error over the standard deviation of what is expected; the measure of every parity test."""
    assert found.shape == expected.shape, f"shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
    error = (found - expected).abs().max() / expected.float().std()
    assert error <= tolerance, f"max error / std is {error:.2e}, allowed {tolerance:.0e}"


def assert_near(found: Tensor, expected: Tensor, scale: Tensor) -> None:
    """As `assert_close`, where what is expected may be zero."""
    error = (found - expected).abs().max() / scale.std()
    assert error <= TOLERANCE, f"max error / std is {error:.2e}"


@dataclass(eq=False)
class Recorder(WrappedBlock):
    """Notes how many rows go through the mixer and the ffn of a block."""

    mixed: list[int] = field(default_factory=list)  # rows of each call
    fed: list[int] = field(default_factory=list)
    again: list[int] = field(default_factory=list)  # tokens that were fed again without some experts

    def mix(self, x: Tensor, ctx: Any, past: Any = None) -> MixerOutput:
        self.mixed.append(x.shape[0])
        return super().mix(x, ctx, past)

    def ffn(self, x: Tensor, ctx: Any, past: Any = None, without: Tensor | None = None) -> tuple[Tensor, Past | None]:
        (self.again if x.dim() == 2 else self.fed).append(x.shape[0])
        return super().ffn(x, ctx, past, without)


def cast(model: BlockModel, dtype: torch.dtype) -> BlockModel:
    """An independent copy in another dtype, without the tokenizer."""
    other = copy.copy(model)
    other.tokenizer = other.reader = None  # its weights come into memory where they are streamed
    other = copy.deepcopy(other)
    for table in (other.weights, *(block.weights for block in other.blocks)):
        table.update({role: tensor.to(dtype) for role, tensor in table.items()})
    return other


def token_ids(model: BlockModel) -> Tensor:
    """(3, TIME) random tokens, the same for every check."""
    return torch.randint(model.spec.vocab_size, (len(LENGTHS), TIME), generator=torch.Generator().manual_seed(0)).to(model.device)


def variants(model: BlockModel) -> tuple[Tensor, Context]:
    """Three different streams (3 * documents, TIME, d) and their context."""
    x, ctx = model.begin(token_ids(model))
    return torch.cat([x, x.flip(0) * 0.5, x.roll(1, -1)]), ctx


def parts_of(step: Advance) -> Parts:
    assert step.parts is not None, "a call with one edge has parts"
    return step.parts
