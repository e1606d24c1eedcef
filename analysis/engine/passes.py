"""How often weights that are streamed are read in a sweep: known before it runs, since its executor goes the same way without tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from adapters.base import BlockModel, Edge
from adapters.errors import StrataError
from analysis.engine.plan import Plan, Stream
from analysis.engine.sweep import Executor, documents_per_batch, room_for


class _Visits:
    """Notes which blocks are asked for, one after the other; its streams are nothing."""

    edges = 1 << 60

    def __init__(self) -> None:
        self.blocks: list[int] = []

    def begin(self) -> Tensor:
        return torch.empty(0)

    def advance(self, i: int, xs: Sequence[Tensor], edges: Sequence[Edge], owners: Sequence[Stream]) -> list[Tensor]:
        if self.blocks[-1:] != [i] and not all(action.adds_nothing for _, action in edges):
            self.blocks.append(i)
        return [xs[v] for v, _ in edges]

    def add(self, ablations: Sequence[int], xs: Sequence[Tensor]) -> None:
        """Scores need no block."""


def visits(plan: Plan, limit: int, kl: bool) -> list[int]:
    """Blocks in the order in which one batch reads their weights, when `limit` streams are held at once."""
    found = _Visits()
    dense_first = replace(plan, dense_first=True)
    if kl and dense_first.minimum > limit:  # a pass of its own for the dense model
        found.blocks = list(range(len(plan.spec.blocks)))
    elif kl:
        plan = dense_first
    Executor(plan, found, found, limit, lambda streams: None).run()
    return found.blocks


def batch_size(model: BlockModel, plan: Plan, documents: int, time: int, memory: int | None, kl: bool) -> int:
    """How many of the documents, of `time` tokens each, to sweep at once."""
    if model.reader is None:
        return documents_per_batch(model, plan, time, memory)
    return documents_streamed(model, plan, documents, time, memory, kl)


def documents_streamed(model: BlockModel, plan: Plan, documents: int, time: int, memory: int | None, kl: bool) -> int:
    """How many of the documents to sweep at once, so that the fewest weights are read, in the smallest batches that do so.

    Larger batches read weights for more documents, but where their streams do not fit, parts of the tree go down one after the other
    and read the later blocks again. To keep streams elsewhere meanwhile would move twice their bytes for each block: that is more
    than reading the block again, unless less than half a block of room is left for streams.
    """
    assert model.reader is not None
    once = model.reader.bytes_of(range(len(model.blocks)))
    found: list[tuple[int, int]] = []
    for size in sorted({-(-documents // n) for n in range(1, documents + 1)}, reverse=True):
        if found and -(-documents // size) * once > min(found)[0]:
            break  # smaller ones read more
        try:
            found.append((weights_read(model, plan, documents, size, time, memory, kl), size))
        except StrataError:  # not even its least fits
            continue
    return min(found)[1] if found else 1


def weights_read(model: BlockModel, plan: Plan, documents: int, size: int, time: int, memory: int | None, kl: bool) -> int:
    """Bytes of the files, for all documents in batches of `size`. Raises StrataError when `memory` is too small."""
    if (reader := model.reader) is None:
        return 0

    @cache
    def of_batch(n: int) -> int:
        return reader.bytes_of(visits(plan, min(plan.widest, room_for(memory, model, plan, n, time).streams), kl))

    return documents // size * of_batch(size) + (of_batch(documents % size) if documents % size else 0)
