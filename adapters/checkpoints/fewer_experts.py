"""Checkpoints with fewer experts: which of them files can hold, and the tensors that hold those that stay."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from adapters.ablation import Ablation
from adapters.checkpoints.layout import Slot, Store
from adapters.errors import StrataError
from adapters.roles import ROLES
from adapters.specs import ModelSpec

Parts = Iterable[tuple[int, int]]  # (block, expert)


def staying(spec: ModelSpec, kept: Collection[int], removed: Parts) -> dict[int, list[int]]:
    """The experts that stay in each block of `kept` that has any; empty where none is removed.

    Raises StrataError on experts that do not exist, and where different numbers of them would stay: config.json has one for all.
    """
    out = Ablation(experts=frozenset(removed))
    out.check(spec)
    if not out:
        return {}
    stay = {i: [e for e in range(spec.blocks[i].n_experts) if (i, e) not in out.experts] for i in kept if spec.blocks[i].n_experts}
    numbers = {i: len(experts) for i, experts in stay.items()}
    if len(set(numbers.values())) > 1:
        few, many = (end(numbers, key=lambda i: numbers[i]) for end in (min, max))
        raise StrataError(
            f"{numbers[few]} experts would stay in block {few} and {numbers[many]} in block {many}: stock loaders hold one number for all "
            "blocks with experts, so take as many out of each, or measure without writing"
        )
    if 0 in numbers.values():
        raise StrataError(f"all experts of {spec.name} would be removed: at least one must stay in each block that has any")
    return stay


def pairs(role: str, slot: Slot, new: int, old: int, rows: int, stay: Sequence[int] | None) -> list[tuple[str, str]]:
    """New keys of a role in block `new` and those that they had in block `old`, where each may be of one row or expert."""
    if stay is None or not (slot.in_rows and _is_expert(role)):
        return list(zip(slot.keys(new, rows), slot.keys(old, rows), strict=True))
    return [(slot.key.format(i=new, h=place), slot.key.format(i=old, h=expert)) for place, expert in enumerate(stay)]


def narrowed(table: Mapping[str, Slot], store: Store, kept: Sequence[int], stay: Mapping[int, Sequence[int]]) -> dict[str, Tensor]:
    """By new key, what is left of tensors that hold something of all experts of a block: the router's, and experts in one tensor."""
    found = {
        slot.key.format(i=new): (slot.key.format(i=old), stay[old])
        for new, old in enumerate(kept)
        if old in stay
        for role, slot in table.items()
        if (role == "router" or _is_expert(role)) and not slot.in_rows
    }
    return {new: store.read(old)[torch.tensor(experts)] for new, (old, experts) in found.items() if old in store.shapes}


def _is_expert(role: str) -> bool:
    return role in ROLES and ROLES[role].expert
