"""Families of ablations: every block, mixer, ffn, head, group of heads or expert of a model, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

from adapters.ablation import Ablation
from adapters.errors import StrataError, unknown
from adapters.specs import ModelSpec


def _sublayers(spec: ModelSpec, kind: str) -> list[Ablation]:
    """Of the blocks that have one: `kind` is mixers or ffns."""
    found = [i for i, block in enumerate(spec.blocks) if (block.has_mixer if kind == "mixers" else block.has_ffn)]
    if not found:
        raise StrataError(f"{spec.name} ({spec.variant}) has no {kind}: use `kinds` blocks")
    return [Ablation.from_json({kind: [i]}).canonical(spec) for i in found]


def _heads(spec: ModelSpec) -> list[Ablation]:
    return _groups(spec, [1] * len(spec.blocks))


def _kv_groups(spec: ModelSpec) -> list[Ablation]:
    """The query heads that share a key-value head, together; where none do, each head alone."""
    if without := [block for block in spec.blocks if block.n_heads and not block.n_kv_heads]:
        found = "no key-value heads" if all(block.scan for block in without) else "groups of unequal size"
        raise StrataError(f"{spec.name} ({spec.variant}) has {found}: use `kinds` heads")
    return _groups(spec, [(block.n_heads or 0) // (block.n_kv_heads or 1) for block in spec.blocks])


def _groups(spec: ModelSpec, sizes: list[int]) -> list[Ablation]:
    if not any(block.n_heads for block in spec.blocks):
        raise StrataError(f"{spec.name} ({spec.variant}) has no heads: use `kinds` blocks, mixers or ffns")
    return [
        Ablation(heads=frozenset((i, first + j) for j in range(size)))
        for i, (block, size) in enumerate(zip(spec.blocks, sizes, strict=True))
        for first in range(0, block.n_heads or 0, size)
    ]


def _experts(spec: ModelSpec) -> list[Ablation]:
    """Of the blocks that have any."""
    if not spec.has_experts:
        raise StrataError(f"{spec.name} ({spec.variant}) has no experts: use `kinds` blocks, mixers or ffns")
    return [Ablation(experts=frozenset({(i, e)})).canonical(spec) for i, block in enumerate(spec.blocks) for e in range(block.n_experts)]


KINDS: dict[str, Callable[[ModelSpec], list[Ablation]]] = {
    "blocks": lambda spec: [Ablation(blocks=frozenset({i})) for i in range(len(spec.blocks))],
    "mixers": lambda spec: _sublayers(spec, "mixers"),
    "ffns": lambda spec: _sublayers(spec, "ffns"),
    "heads": _heads,
    "kv_groups": _kv_groups,
    "experts": _experts,
}


def block_kinds(spec: ModelSpec) -> tuple[str, ...]:
    """Kinds of parts of which each block has one: where some block is a mixer or an ffn alone, blocks."""
    return ("blocks", "mixers", "ffns") if all(block.has_mixer and block.has_ffn for block in spec.blocks) else ("blocks",)


def single_ablations(spec: ModelSpec, kinds: Iterable[str], edits: Iterable[str] = ("zero",)) -> list[Ablation]:
    """Every single ablation of the given kinds, with each of the edits.

    Raises StrataError on an unknown kind or edit, and on parts that do not exist.
    """
    out: list[Ablation] = []
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("kind", kind, KINDS)
        out += KINDS[kind](spec)
    return [replace(ablation, edit=edit) for edit in edits for ablation in out]


class RowKey(NamedTuple):
    """Where an ablation stands in a table. `set`: anything but the dense model and a single part of one of KINDS."""

    kind: str
    block: int | None
    head: int | None  # of a key-value group its number in the block
    expert: int | None
    ablation: str  # all of it, as text


def row_key(spec: ModelSpec, ablation: Ablation) -> RowKey:
    """The columns of a result table that say which ablation of a model a row is of."""
    kind, block, head, expert = "set", None, None, None
    if not ablation:
        kind = "dense"
    elif (group := _kv_group(spec, ablation)) is not None:
        kind, block, head = "kv_groups", *group
    else:
        match [(kind, index) for kind, indices in ablation.parts.items() for index in indices]:
            case [("heads", (block, head))]:
                kind = "heads"
            case [("experts", (block, expert))]:
                kind = "experts"
            case [(kind, block)]:
                pass
            case _:
                kind = "set"
    return RowKey(kind, block, head, expert, str(ablation))


def _kv_group(spec: ModelSpec, ablation: Ablation) -> tuple[int, int] | None:
    """Block and number of the group whose query heads, all of them and nothing else, are out; None for anything else."""
    block, head = min(ablation.heads, default=(0, 0))
    n_heads, n_kv_heads = spec.blocks[block].n_heads or 0, spec.blocks[block].n_kv_heads or 0
    size = n_heads // n_kv_heads if n_kv_heads else 0
    if size < 2 or head % size or ablation.parts != {"heads": [(block, head + i) for i in range(size)]}:
        return None
    return block, head // size
