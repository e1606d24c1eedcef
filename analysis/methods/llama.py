"""Llama's blocks, as methods that cut their matrices need them: untouched, or as mere shapes."""

from __future__ import annotations

from adapters.base import BlockModel
from adapters.errors import StrataError
from adapters.families.llama import LlamaBlock
from adapters.roles import shapes_of
from analysis.methods.method import Method, require


def llama_blocks(model: BlockModel, method: Method) -> list[LlamaBlock]:
    """The blocks, when `method` knows them and all are as they were loaded; else raises StrataError."""
    require(method, model)
    blocks = []
    for i, block in enumerate(model.blocks):
        if not isinstance(block, LlamaBlock):
            raise StrataError(
                f"{method.title} cannot cut block {i} of {model.spec.name}, a {type(block).__name__}: prune before anything else is changed"
            )
        if kind := next((str(t.dtype) for t in block.weights.values() if not t.is_floating_point()), None):
            raise StrataError(
                f"{method.title} computes with float weights, and block {i} of {model.spec.name} has {kind} ones: quantise afterwards"
            )
        blocks.append(block)
    return blocks


def shapes(model: BlockModel, method: Method) -> BlockModel:
    """The model without numbers in its weights: what is made of it has the size of the real thing and takes no memory."""
    other = model.with_blocks([block.with_weights(shapes_of(block.weights)) for block in llama_blocks(model, method)])
    other.weights = shapes_of(model.weights)
    return other
