"""A block of a hybrid: the mixer of Mamba in the place of attention, and all else as in a decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from adapters.block import Context, MixerOutput
from adapters.decoder import DecoderBlock
from adapters.errors import StrataError
from adapters.families.mamba.blocks import MambaPast, run
from adapters.families.mamba.config import Shapes, Sizes, mixer_shapes
from adapters.families.mamba.mixers import How, mamba
from adapters.products import linear

PLAIN = How()
NO_HEADS = "a block with the mixer of Mamba has no heads: ablate the block, its mixer or its ffn instead"


class StateSpace(NamedTuple):
    """The mixer of one block, with norms of steps, b and c."""

    sizes: Sizes
    how: How
    conv_bias: bool
    bias: bool

    @property
    def shapes(self) -> Shapes:
        """Its output projection has a role of its own, for files hold it elsewhere than that of attention."""
        shapes = mixer_shapes(self.sizes, conv_bias=self.conv_bias, bias=self.bias)
        renamed = {role.replace("o", "out", 1) if role in ("o", "o_bias") else role: shape for role, shape in shapes.items()}
        return renamed | {f"{role}_norm": shapes[role][:1] for role in ("step_in", "b", "c")}


@dataclass(frozen=True, slots=True)
class StateSpaceBlock(DecoderBlock):
    how: How = PLAIN

    def mix(self, x: Tensor, ctx: Context, past: MambaPast | None = None) -> MixerOutput:  # type: ignore[override]
        z, after = run(mamba, self.weights, self.how, self._norm(x, "mixer_norm"), ctx, past)
        return MixerOutput(linear(z, self.weights["out"], self.weights.get("out_bias")), None, after)

    def project(self, z: Tensor, heads: Sequence[int] | None = None) -> Tensor:
        """Raises StrataError."""
        raise StrataError(NO_HEADS)

    def keep_heads(self, kept: Sequence[int]) -> DecoderBlock:
        """Raises StrataError."""
        raise StrataError(NO_HEADS)
