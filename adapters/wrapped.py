"""Blocks around blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from adapters.block import Block, MixerOutput, Past
from adapters.errors import StrataError
from adapters.experts import Routing, experts_of
from adapters.specs import BlockSpec


@dataclass(eq=False)
class WrappedBlock:
    """A block that does what `block` does. What it is made for overrides a part of that."""

    block: Block

    @property
    def spec(self) -> BlockSpec:
        return self.block.spec

    @property
    def weights(self) -> dict[str, Tensor]:
        return self.block.weights

    def with_weights(self, weights: dict[str, Tensor]) -> Block:
        """Raises StrataError: what the wrapping does was made for the weights that are there."""
        raise StrataError(f"a block cannot take other weights once it is a {type(self).__name__}: do this before anything else is changed")

    def mix(self, x: Tensor, ctx: Any, past: Any = None) -> MixerOutput:
        return self.block.mix(x, ctx, past)

    def project(self, z: Tensor, heads: Sequence[int] | None = None) -> Tensor:
        return self.block.project(z, heads)

    def close(self, delta: Tensor) -> Tensor:
        return self.block.close(delta)

    def keep_heads(self, kept: Sequence[int]) -> Block:
        """Raises StrataError."""
        raise StrataError(f"heads cannot be deleted from a {type(self).__name__}: delete all of them at once, before anything else")

    def ffn(self, x: Tensor, ctx: Any, past: Any = None, without: Tensor | None = None) -> tuple[Tensor, Past | None]:
        return self.block.ffn(x, ctx, past) if without is None else experts_of(self.block).ffn(x, ctx, past, without)

    def route(self, x: Tensor, without: Tensor | None = None) -> Routing:
        return experts_of(self.block).route(x, without)

    def share(self, x: Tensor, sent: Routing, expert: int) -> Tensor:
        return experts_of(self.block).share(x, sent, expert)

    def keep_experts(self, kept: Sequence[int]) -> Block:
        """Raises StrataError."""
        raise StrataError(f"experts cannot be deleted from a {type(self).__name__}: delete them before anything else is changed")

    def beside(self, x: Tensor) -> Tensor | None:
        return experts_of(self.block).beside(x)

    @property
    def renormalised(self) -> bool:
        return experts_of(self.block).renormalised
