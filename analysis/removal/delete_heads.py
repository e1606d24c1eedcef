"""Heads taken out for good: their rows and columns leave the weights, and what they gave leaves the stream.

Equal to zero ablation (ShortGPT, arXiv 2403.03853v1, section 4.2: the output projection is adjusted so that its shape of
output stays). A key-value head goes when all query heads that read it go. Groups may become unequal; the query heads then
keep a table of which keys and values each of them reads, no weight is repeated, and `n_kv_heads` is None.
"""

from __future__ import annotations

from collections.abc import Iterable

from adapters.block import Block
from adapters.errors import StrataError


def delete_heads(block: Block, heads: Iterable[int]) -> Block:
    """The block without `heads`: the same deltas as when their z is zero, with fewer weights.

    Raises StrataError when there are no heads, one is out of range, none would be left, and as `Block.keep_heads` does.
    """
    spec, out = block.spec, set(heads)
    if spec.n_heads is None:
        raise StrataError("this architecture has no heads: delete its blocks instead")
    if strange := sorted(out - set(range(spec.n_heads))):
        raise StrataError(f"head {strange[0]} is out of range: the block has heads 0 to {spec.n_heads - 1}")
    if len(out) == spec.n_heads:
        raise StrataError(f"all {spec.n_heads} heads of a block are to go: ablate its mixer instead")
    return block.keep_heads([head for head in range(spec.n_heads) if head not in out])
