"""What is said where a model with what a study holds of it does not fit into memory."""

from __future__ import annotations

from adapters.base import BlockModel
from adapters.errors import StrataError
from adapters.memory import megabytes


def too_little(what: str, room: int, model: BlockModel, *, given: bool = False) -> StrataError:
    """`what` says what is needed; `room` bytes are free, or were `given`."""
    ways = ["shorter windows", *["`weights` streamed"] * (model.reader is None), *["`dtype` bfloat16"] * (model.dtype.itemsize > 2)]
    found = f"{what}, {megabytes(room)} are {'allowed' if given else f'free on {model.device}'}"
    return StrataError(f"{found}: give it more memory, {', '.join(ways[:-1])}{' or ' * (len(ways) > 1)}{ways[-1]}")
