"""Heads taken out for good: their rows and columns leave the weights, and what they gave leaves the stream.

Equal to zero ablation (ShortGPT, arXiv 2403.03853v1, section 4.2: the output projection is adjusted so that its shape of
output stays). A key-value head goes when all query heads that read it go. Groups may become unequal; the query heads then
keep a table of which keys and values each of them reads, no weight is repeated, and `n_kv_heads` is None.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from adapters.attention import AttentionContext, KeyValuePast
from adapters.base import Block, MixerOutput
from adapters.errors import StrataError
from adapters.families.baichuan import AlibiContext
from adapters.families.llama import LlamaBlock
from adapters.families.rwkv.blocks import RwkvBlock, RwkvContext
from adapters.roles import ROLES, shapes_by_role, spec_of
from adapters.wrapped import WrappedBlock


def delete_heads(block: Block, heads: Iterable[int]) -> Block:
    """The block without `heads`: the same deltas as when their z is zero, with fewer weights.

    Raises StrataError when there are no heads, one is out of range, none would be left, or the block is of no known kind.
    """
    spec, out = block.spec, set(heads)
    if spec.n_heads is None:
        raise StrataError("this architecture has no heads: delete its blocks instead")
    if strange := sorted(out - set(range(spec.n_heads))):
        raise StrataError(f"head {strange[0]} is out of range: the block has heads 0 to {spec.n_heads - 1}")
    if not isinstance(block, LlamaBlock | RwkvBlock):
        raise StrataError(f"heads cannot be deleted from a {type(block).__name__}: delete all of them at once, before anything else")
    if len(out) == spec.n_heads:
        raise StrataError(f"all {spec.n_heads} heads of a block are to go: ablate its mixer instead")
    kept = [head for head in range(spec.n_heads) if head not in out]
    size = spec.n_heads // (spec.n_kv_heads or spec.n_heads)  # query heads of a group
    groups = sorted({head // size for head in kept})
    weights = dict(block.weights)
    for role, t in weights.items():
        _, _, axis, grouped, _ = ROLES[role]
        if axis is not None:
            weights[role] = _kept(t, axis, *((groups, spec.n_heads // size) if grouped else (kept, spec.n_heads)))
    reads = [groups.index(head // size) for head in kept]
    equal = len({reads.count(group) for group in set(reads)}) == 1
    narrow = spec_of(shapes_by_role(weights), len(kept))
    narrow = narrow if equal else replace(narrow, n_kv_heads=None)
    if isinstance(block, LlamaBlock):
        return NarrowAttention(replace(block, spec=narrow, weights=weights), tuple(kept), tuple(reads))
    return NarrowTimeMix(replace(block, spec=narrow, weights=weights), tuple(kept))


def _kept(t: Tensor, axis: int, kept: list[int], n: int) -> Tensor:
    """The pieces `kept` of the `n` that `t` has along `axis`."""
    pieces = t.unflatten(axis, (n, -1)).index_select(axis, torch.tensor(kept, device=t.device))
    return pieces.flatten(axis, axis + 1)


@dataclass(frozen=True, kw_only=True)
class KeptHeads(AttentionContext):
    """A context as the query heads that are left see it."""

    whole: AttentionContext
    reads: Sequence[int]  # the key-value head of each query head

    def attend(self, q: Tensor, k: Tensor, v: Tensor, past: KeyValuePast | None) -> tuple[Tensor, KeyValuePast]:
        reads = torch.tensor(self.reads, device=k.device)
        return self.whole.attend(q, k[:, reads], v[:, reads], past)


@dataclass(eq=False)
class NarrowAttention(WrappedBlock):
    """Attention with fewer heads, on the weights that are left; each keeps its ALiBi slope and the keys and values that it read."""

    kept: tuple[int, ...]  # heads by their number before
    reads: tuple[int, ...]

    def mix(self, x: Tensor, ctx: Any, past: Any = None) -> MixerOutput:
        if isinstance(ctx, AlibiContext):
            ctx = replace(ctx, slopes=ctx.slopes[list(self.kept)])
        return super().mix(x, KeptHeads(documents=ctx.documents, lengths=ctx.lengths, whole=ctx, reads=self.reads), past)


@dataclass(eq=False)
class NarrowTimeMix(WrappedBlock):
    """A time-mix with fewer heads, on the weights that are left, which reads their channels of RWKV-7's v_first."""

    kept: tuple[int, ...]  # heads by their number before

    def mix(self, x: Tensor, ctx: RwkvContext, past: Any = None) -> MixerOutput:
        if ctx.v_first is not None and ctx.v_carry is not None:
            ctx = replace(ctx, v_first=self._channels(ctx.v_first), v_carry=self._channels(ctx.v_carry))
        return super().mix(x, ctx, past)

    def _channels(self, v: Tensor) -> Tensor:
        return v.unflatten(-1, (-1, self.spec.head_dim))[..., list(self.kept), :].flatten(-2)
