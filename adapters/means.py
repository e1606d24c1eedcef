"""What the parts of a block leave behind when an ablation puts their means in their place."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

from adapters.action import Action


class Means(NamedTuple):
    """Of one block; None: it has no such part, or no heads."""

    z: Tensor | None  # (n_heads, head_dim)
    mixer: Tensor | None  # (d,), of what it adds
    ffn: Tensor | None

    def left(self, part: Literal["mixer", "ffn"], action: Action, x: Tensor) -> Tensor | None:
        """What a part that is out adds to the stream x (D, T, d) in its place; None: nothing, or the part runs."""
        mean = None if getattr(action, part) or action.edit == "zero" else getattr(self, part)
        return None if mean is None else mean.expand_as(x)


NO_MEANS = Means(None, None, None)
