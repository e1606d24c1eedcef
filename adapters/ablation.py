"""An ablation is a value: what is taken out of a model. Block indices are 0-based everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from operator import index
from typing import Any

from adapters.action import EDITS, KEEP, Action
from adapters.errors import StrataError, unknown
from adapters.specs import ModelSpec


@dataclass(frozen=True, slots=True)
class Ablation:
    """A set of blocks, mixers, ffns, heads and experts to take out, and what they leave behind; hashable, printable, canonical.

    With the edit `zero` that is nothing, with `mean` each part's mean over calibration text, which a model must be given
    (`analysis.engine.mean_ablation`).
    The router of an expert that is out sends its tokens to others, so that experts leave no means.
    Equal interventions are equal values: a mixer and an ffn of the same block become that block, and parts of
    something that is already out are dropped. Any iterable of whole numbers is accepted; anything else raises StrataError.
    """

    blocks: frozenset[int] = frozenset()
    mixers: frozenset[int] = frozenset()
    ffns: frozenset[int] = frozenset()
    heads: frozenset[tuple[int, int]] = frozenset()  # (block, head)
    edit: str = "zero"
    experts: frozenset[tuple[int, int]] = frozenset()  # (block, expert)

    def __post_init__(self) -> None:
        mixers, ffns = _indices(self.mixers), _indices(self.ffns)
        blocks = _indices(self.blocks) | (mixers & ffns)
        heads = frozenset(_pair(head, "a head") for head in self.heads)
        experts = frozenset(_pair(expert, "an expert") for expert in self.experts)
        heads = frozenset((b, h) for b, h in heads if b not in blocks | mixers)
        experts = frozenset((b, e) for b, e in experts if b not in blocks | ffns)
        values = blocks, mixers - blocks, ffns - blocks, heads, experts
        for name, value in zip(_NAMES, values, strict=True):
            object.__setattr__(self, name, value)
        if self.edit not in EDITS:
            raise unknown("edit", self.edit, EDITS)
        if experts and self.edit == "mean":
            raise StrataError(f"{self}: an expert leaves no mean behind, for its tokens go to others: use `edits` zero for experts")
        if not self:
            object.__setattr__(self, "edit", "zero")

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in _NAMES)

    def __or__(self, other: Ablation) -> Ablation:
        """What either takes out. Raises StrataError where one leaves nothing behind and the other means."""
        if self and other and self.edit != other.edit:
            raise StrataError(f"{self} and {other} leave different things behind: an ablation has one edit, {' or '.join(EDITS)}")
        edit = (self or other).edit
        return Ablation(**{name: getattr(self, name) | getattr(other, name) for name in _NAMES}, edit=edit)

    def __str__(self) -> str:
        parts = "; ".join(f"{name} {', '.join(map(_show, indices))}" for name, indices in self.parts.items())
        return f"{parts}{f' ({self.edit})' * (self.edit != 'zero')}" or "dense"

    @property
    def parts(self) -> dict[str, list]:
        """What is out, by kind, in order; kinds of which nothing is are left out."""
        return {name: sorted(getattr(self, name)) for name in _NAMES if getattr(self, name)}

    def canonical(self, spec: ModelSpec) -> Ablation:
        """The same intervention in `spec`, where the only part of a block is that block, and experts without anything beside them
        are, all together, the ffn. Raises StrataError as `check`.
        """
        self.check(spec)
        found = [(i, spec.blocks[i], out) for i, out in _by_block(self.experts).items()]
        whole = {i for i, block, out in found if len(out) == block.n_experts and not block.shared_expert}
        ffns = self.ffns | whole
        alone = {i for i in self.mixers if not spec.blocks[i].has_ffn} | {i for i in ffns if not spec.blocks[i].has_mixer}
        return replace(self, blocks=self.blocks | alone, ffns=ffns) if alone or whole else self

    def actions(self, spec: ModelSpec) -> tuple[Action, ...]:
        """The action of every block of a model, in which a part that the block lacks is out.

        Raises StrataError as `check`: an ablation that does not exist has no effect to measure.
        """
        self.check(spec)
        heads, experts = _by_block(self.heads), _by_block(self.experts)
        touched = self.blocks | self.mixers | self.ffns | heads.keys() | experts.keys()
        out = {
            i: Action(
                mixer=i not in self.blocks and i not in self.mixers,
                heads=frozenset(heads.get(i, ())),
                ffn=i not in self.blocks and i not in self.ffns,
                experts=frozenset(experts.get(i, ())),
                edit=self.edit,
            )
            for i in touched
        }
        return tuple(block.canonical(out.get(i, KEEP)) for i, block in enumerate(spec.blocks))

    def check(self, spec: ModelSpec) -> None:
        """Raises StrataError when a block, a part of it, a head or an expert does not exist in `spec`."""
        n = len(spec.blocks)
        for i in sorted(self.blocks | self.mixers | self.ffns | {block for block, _ in self.heads | self.experts}):
            if not 0 <= i < n:
                raise StrataError(f"block {i} is out of range: {spec.name} has blocks 0 to {n - 1}")
        lacks = [(i, "mixer") for i in self.mixers if not spec.blocks[i].has_mixer]
        lacks += [(i, "ffn") for i in self.ffns if not spec.blocks[i].has_ffn]
        if lacks:
            i, part = min(lacks)
            raise StrataError(f"block {i} of {spec.name} ({spec.variant}) has no {part}: ablate the block instead")
        for i, head in sorted(self.heads):
            n_heads = spec.blocks[i].n_heads
            if n_heads is None:
                raise StrataError(f"block {i} of {spec.name} ({spec.variant}) has no heads: ablate blocks, mixers or ffns instead")
            if not 0 <= head < n_heads:
                raise StrataError(f"head {head} of block {i} is out of range: the block has heads 0 to {n_heads - 1}")
        for i, expert in sorted(self.experts):
            n_experts = spec.blocks[i].n_experts
            if not n_experts:
                raise StrataError(f"block {i} of {spec.name} ({spec.variant}) has no experts: ablate its ffn instead")
            if not 0 <= expert < n_experts:
                raise StrataError(f"expert {expert} of block {i} is out of range: the block has experts 0 to {n_experts - 1}")

    def to_json(self) -> dict[str, Any]:
        """Its parts, and its edit where it is not zero."""
        return self.parts | ({"edit": self.edit} if self.edit != "zero" else {})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Ablation:
        blocks, mixers, ffns = (frozenset(data.get(name, ())) for name in _NAMES[:3])
        heads, experts = (frozenset((block, part) for block, part in data.get(name, ())) for name in _NAMES[3:])
        return cls(blocks, mixers, ffns, heads, data.get("edit", "zero"), experts)


def _indices(given: Iterable) -> frozenset[int]:
    try:
        return frozenset(map(index, given))
    except TypeError:
        raise StrataError(f"{given!r} is not a set of block indices: give whole numbers from 0 on, for example {{0, 3}}") from None


def _pair(given: Iterable, what: str) -> tuple[int, int]:
    try:
        block, part = map(index, given)
    except (TypeError, ValueError):
        raise StrataError(f"{given!r} is not {what}: give its block and its number there, both from 0 on, for example (0, 3)") from None
    return block, part


def _by_block(parts: Iterable[tuple[int, int]]) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for block, part in parts:
        found.setdefault(block, set()).add(part)
    return found


_NAMES = ("blocks", "mixers", "ffns", "heads", "experts")
NONE = Ablation()


def _show(part: int | tuple[int, int]) -> str:
    return f"{part[0]}.{part[1]}" if isinstance(part, tuple) else str(part)
