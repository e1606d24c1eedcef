"""Families of ablations: every block, mixer, ffn or head of a model, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from adapters.ablation import Ablation
from adapters.base import ModelSpec
from adapters.errors import StrataError, unknown


def _heads(spec: ModelSpec) -> list[Ablation]:
    if any(block.n_heads is None for block in spec.blocks):
        raise StrataError(f"{spec.name} ({spec.variant}) has no heads: use --kind blocks, mixers or ffns")
    return [Ablation(heads=frozenset({(i, head)})) for i, block in enumerate(spec.blocks) for head in range(block.n_heads or 0)]


KINDS: dict[str, Callable[[ModelSpec], list[Ablation]]] = {
    "blocks": lambda spec: [Ablation(blocks=frozenset({i})) for i in range(len(spec.blocks))],
    "mixers": lambda spec: [Ablation(mixers=frozenset({i})) for i in range(len(spec.blocks))],
    "ffns": lambda spec: [Ablation(ffns=frozenset({i})) for i in range(len(spec.blocks))],
    "heads": _heads,
}


def singles(spec: ModelSpec, kinds: Iterable[str]) -> list[Ablation]:
    """Every single ablation of the given kinds. Raises StrataError on an unknown kind and on heads that do not exist."""
    out = []
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("kind", kind, KINDS)
        out += KINDS[kind](spec)
    return out


def place(ablation: Ablation) -> tuple[str, int | None, int | None]:
    """Kind, block and head of a single ablation, as in the columns of a result table; ("dense", None, None) for none."""
    for kind, indices in ablation.to_json().items():
        (index,) = indices
        return (kind, *index) if isinstance(index, tuple) else (kind, index, None)
    return "dense", None, None
