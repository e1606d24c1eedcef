"""Removal of whole blocks by an order of `analysis.removal.orders`, as a method beside the others."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.base import BlockModel
from adapters.checkpoints.export import remove_blocks
from analysis.data.batches import Batch
from analysis.methods.method import Level, Method, Remembered, first_documents, without_last
from analysis.removal.orders import ORDERS, Calibration
from analysis.removal.paths import RemovalPath
from analysis.removal.search import SEARCHED

DOCUMENTS = SEARCHED[False]  # that an order reads which runs many ablated models, as in the study of orders


def counts(model: BlockModel) -> Sequence[int]:
    """How many blocks can go."""
    return range(1, len(model.blocks))


def method(name: str, title: str, source: str) -> Method:
    """The knob is the number of blocks that go, the first of an order, whose sets are nested."""
    order = ORDERS[name]

    @Remembered
    def path(model: BlockModel, batches: Sequence[Batch]) -> RemovalPath:
        read = first_documents(batches, DOCUMENTS) if order.searched else batches
        return order.find(Calibration(model, read), len(model.blocks) - 1)

    def prune(model: BlockModel, batches: Sequence[Batch], level: Level) -> BlockModel:
        return remove_blocks(model, path(model, batches)[int(level)].blocks)

    return Method(title, source, prune, counts, without_last, stock=True, floats=False)


SHORTGPT = method("bi", "ShortGPT", "2403.03853")
ONE_SHOT = method("nll", "one-shot removal", "2402.02834")  # Shortened LLaMA's perplexity criterion
