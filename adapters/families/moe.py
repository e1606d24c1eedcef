"""What decoders with experts share: where a checkpoint holds them, and which blocks have them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from adapters.checkpoints.layout import Slot
from adapters.errors import StrataError
from adapters.families.table import Experts, Layer


def expert_slots(prefix: str, *, gate: str = "gate_proj", up: str = "up_proj", down: str = "down_proj") -> dict[str, Slot]:
    """Of files with tensors of their own for each expert."""
    return {f"expert_{role}": Slot(f"{prefix}{{h}}.{name}.weight") for role, name in (("gate", gate), ("up", up), ("down", down))}


def fused_expert_slots(prefix: str) -> dict[str, Slot]:
    """Of files as transformers 5 holds experts in memory: one tensor for all, gate and up in one."""
    both = ("expert_gate", "expert_up")
    return {role: Slot(f"{prefix}gate_up_proj", both, stacked=True) for role in both} | {
        "expert_down": Slot(f"{prefix}down_proj", stacked=True)
    }


def sparse(layers: Sequence[Layer], experts: Experts, dense: Collection[int] = ()) -> list[Layer]:
    """`layers` with experts in all blocks but `dense`. Raises StrataError on numbers that make no sense, where any block has experts."""
    if all(i in dense for i in range(len(layers))):
        return list(layers)
    for key, value in experts._asdict().items():
        if type(value) is not int or value < (key != "shared"):
            raise StrataError(f"config.json is not valid: the experts' {key} is {value!r}, expected a whole number above zero")
    if experts.per_token > experts.number:
        raise StrataError(
            f"config.json is not valid: tokens are sent to {experts.per_token} of {experts.number} experts, expected no more than there are"
        )
    return [layer if i in dense else layer._replace(experts=experts) for i, layer in enumerate(layers)]
