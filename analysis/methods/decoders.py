"""Blocks of decoders, as methods that cut their matrices need them: untouched, or as mere shapes."""

from __future__ import annotations

from adapters.base import BlockModel
from adapters.decoder import DecoderBlock
from adapters.errors import StrataError
from adapters.roles import shapes_of
from analysis.methods.method import Method, require


def decoder_blocks(model: BlockModel, method: Method) -> list[DecoderBlock]:
    """The blocks, when `method` knows them and all are as they were loaded; else raises StrataError."""
    require(method, model)
    blocks = []
    for i, block in enumerate(model.blocks):
        if not isinstance(block, DecoderBlock):
            raise StrataError(
                f"{method.title} cannot cut block {i} of {model.spec.name}, a {type(block).__name__}: prune before anything else is changed"
            )
        if block.spec.n_kv_heads is None:
            raise StrataError(
                f"{method.title} cannot cut block {i} of {model.spec.name}, whose heads are in groups of unequal size: cut first"
            )
        if kind := next((str(t.dtype) for t in block.weights.values() if not t.is_floating_point()), None):
            raise StrataError(
                f"{method.title} computes with float weights, and block {i} of {model.spec.name} has {kind} ones: quantise afterwards"
            )
        blocks.append(block)
    return blocks


def shapes(model: BlockModel, method: Method) -> BlockModel:
    """The model without numbers in its weights: what is made of it has the size of the real thing and takes no memory."""
    other = model.with_blocks([block.with_weights(shapes_of(block.weights)) for block in decoder_blocks(model, method)])
    other.weights = shapes_of(model.weights)
    return other
