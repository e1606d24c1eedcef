"""Families of ablations: every block, mixer, ffn, head or group of heads of a model, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from adapters.ablation import Ablation
from adapters.errors import StrataError, unknown
from adapters.specs import ModelSpec


def _heads(spec: ModelSpec) -> list[Ablation]:
    return _groups(spec, [1] * len(spec.blocks))


def _kv_groups(spec: ModelSpec) -> list[Ablation]:
    """The query heads that share a key-value head, together; where none do, each head alone."""
    if any(block.n_heads and not block.n_kv_heads for block in spec.blocks):
        raise StrataError(f"{spec.name} has groups of unequal size: use --kind heads")
    return _groups(spec, [(block.n_heads or 0) // (block.n_kv_heads or 1) for block in spec.blocks])


def _groups(spec: ModelSpec, sizes: list[int]) -> list[Ablation]:
    if not spec.has_heads:
        raise StrataError(f"{spec.name} ({spec.variant}) has no heads: use --kind blocks, mixers or ffns")
    return [
        Ablation(heads=frozenset((i, first + j) for j in range(size)))
        for i, (block, size) in enumerate(zip(spec.blocks, sizes, strict=True))
        for first in range(0, block.n_heads or 0, size)
    ]


KINDS: dict[str, Callable[[ModelSpec], list[Ablation]]] = {
    "blocks": lambda spec: [Ablation(blocks=frozenset({i})) for i in range(len(spec.blocks))],
    "mixers": lambda spec: [Ablation(mixers=frozenset({i})) for i in range(len(spec.blocks))],
    "ffns": lambda spec: [Ablation(ffns=frozenset({i})) for i in range(len(spec.blocks))],
    "heads": _heads,
    "kv_groups": _kv_groups,
}


def single_ablations(spec: ModelSpec, kinds: Iterable[str]) -> list[Ablation]:
    """Every single ablation of the given kinds. Raises StrataError on an unknown kind and on heads that do not exist."""
    out = []
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("kind", kind, KINDS)
        out += KINDS[kind](spec)
    return out


def row_key(ablation: Ablation) -> tuple[str, int | None, int | None]:
    """Kind, block and head of a single ablation, as in the columns of a result table; ("dense", None, None) for none.

    The head of a key-value group is the number of the group in its block.
    """
    if len(ablation.heads) > 1:
        return "kv_groups", *_group(ablation)
    for kind, indices in ablation.to_json().items():
        (index,) = indices
        return (kind, *index) if isinstance(index, tuple) else (kind, index, None)
    return "dense", None, None


def _group(ablation: Ablation) -> tuple[int, int]:
    blocks, heads = {block for block, _ in ablation.heads}, {head for _, head in ablation.heads}
    number, rest = divmod(min(heads), len(heads))
    if len(blocks) > 1 or rest or max(heads) - min(heads) >= len(heads) or ablation != Ablation(heads=ablation.heads):
        raise ValueError(f"not a single part: {ablation}")
    return min(blocks), number
