"""What a block's weights are, by role: from this table and their shapes comes its spec, and which of them a head takes along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from adapters.specs import BlockSpec, Scan

Shapes = Mapping[str, Sequence[int]]  # by role


class Role(NamedTuple):
    part: Literal["mixer", "ffn"]
    matrix: bool = False  # of a matrix product, which counts as FLOPs; anything else is a vector, or a table with a row for each head
    heads: int | None = None  # axis along which it holds one piece for each head
    grouped: bool = False  # ... in attention for each key-value head
    norm: bool = False  # of a norm as wide as the stream
    output: bool = False  # what the part gives is a linear function of these: where all of them are zero, it gives nothing
    expert: bool = False  # it holds one piece for each expert, along its first axis


ROLES: dict[str, Role] = {
    **dict.fromkeys(("mixer_norm", "mixer_norm_bias"), Role("mixer", norm=True)),
    **dict.fromkeys(("ffn_norm", "ffn_norm_bias"), Role("ffn", norm=True)),
    "mixer_post_norm": Role("mixer", norm=True),  # of what a part gives
    "ffn_post_norm": Role("ffn", norm=True),
    # attention and time-mix
    **dict.fromkeys(("q", "r", "g"), Role("mixer", matrix=True, heads=0)),
    **dict.fromkeys(("k", "v"), Role("mixer", matrix=True, heads=0, grouped=True)),
    "o": Role("mixer", matrix=True, heads=1, output=True),
    "o_bias": Role("mixer", output=True),
    # attention
    "q_bias": Role("mixer", heads=0),
    **dict.fromkeys(("k_bias", "v_bias"), Role("mixer", heads=0, grouped=True)),
    **dict.fromkeys(("q_norm", "q_norm_bias", "k_norm", "k_norm_bias"), Role("mixer")),
    "q_norms": Role("mixer", heads=0),  # a row for each head
    "k_norms": Role("mixer", heads=0, grouped=True),
    # time-mix
    **dict.fromkeys(("head_norm", "head_norm_bias", "decay", "bonus", "log_bonus"), Role("mixer", heads=0)),
    **dict.fromkeys(("w0", "a0", "v0", "k_k", "k_a", "r_k"), Role("mixer", heads=0)),
    **{f"mix_{c}": Role("mixer") for c in "xwkvrga"},
    **dict.fromkeys(("mix_w1", "mix_w2", "decay_w1", "w1", "a1", "v1", "g1"), Role("mixer", matrix=True)),
    **dict.fromkeys(("decay_w2", "w2", "a2", "v2", "g2"), Role("mixer", matrix=True, heads=1)),
    # state-space mixers: channels, what is written to the state and read from it, and steps
    **dict.fromkeys(("x", "b", "c", "step_in", "step"), Role("mixer", matrix=True)),
    **dict.fromkeys(("x_bias", "g_bias", "b_bias", "c_bias", "step_in_bias", "step_bias", "conv", "conv_bias", "skip"), Role("mixer")),
    **dict.fromkeys(("step_in_norm", "b_norm", "c_norm"), Role("mixer")),
    "out": Role("mixer", matrix=True, output=True),  # of Mamba in a hybrid
    "out_bias": Role("mixer", output=True),
    # ffn and channel-mix
    **dict.fromkeys(("gate", "up", "receptance"), Role("ffn", matrix=True)),
    **dict.fromkeys(("gate_bias", "up_bias", "ffn_mix_k", "ffn_mix_r"), Role("ffn")),
    "down": Role("ffn", matrix=True, output=True),
    "down_bias": Role("ffn", output=True),
    # experts, and an MLP beside them
    "router": Role("ffn", matrix=True),
    **dict.fromkeys(("expert_gate", "expert_up"), Role("ffn", matrix=True, expert=True)),
    "expert_down": Role("ffn", matrix=True, expert=True, output=True),
    **dict.fromkeys(("shared_gate", "shared_up"), Role("ffn", matrix=True)),
    "shared_down": Role("ffn", matrix=True, output=True),
    "shared_scale": Role("ffn"),
    # in place of the identity, where the stream changes its axes
    "mixer_skip": Role("mixer", matrix=True),
    "ffn_skip": Role("ffn", matrix=True),
}


def shapes_of(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same roles on the meta device, without numbers: what is made of them has the size of the real thing and takes no memory."""
    return {role: torch.empty_like(t, device="meta") for role, t in weights.items()}


def shapes_by_role(weights: Mapping[str, Tensor]) -> Shapes:
    return {role: tuple(t.shape) for role, t in weights.items()}


def n_numbers(table: Shapes) -> int:
    """How many numbers tensors of these shapes hold."""
    return sum(map(prod, table.values()))


def spec_of(table: Shapes, n_heads: int | None, *, parallel: bool = False, experts_per_token: int = 0) -> BlockSpec:
    """The spec of a block whose weights have these shapes; no weight is read. The other arguments are all that shapes do not say."""
    mixer = {role: shape for role, shape in table.items() if ROLES[role].part == "mixer"}
    experts = {role: shape for role, shape in table.items() if ROLES[role].expert}
    n_experts = table["router"][0] if experts else 0
    head_dim = table["o"][1] // n_heads if n_heads else None
    return BlockSpec(
        n_heads=n_heads,
        n_kv_heads=table["k"][0] // head_dim if head_dim and "k" in table else None,
        head_dim=head_dim,
        d_ffn=next((table[role][0] for role in ("up", "shared_up") if role in table), 0),
        n_params=n_numbers(table),
        flops_per_token=_flops(table) - (_flops(experts) // n_experts * (n_experts - experts_per_token) if experts else 0),
        mixer_params=n_numbers(mixer),
        mixer_flops=_flops(mixer),
        has_mixer=bool(mixer),
        has_ffn=len(mixer) < len(table),
        parallel=parallel,
        n_experts=n_experts,
        experts_per_token=experts_per_token if experts else 0,
        d_expert=table["expert_up"][1] if experts else 0,
        expert_params=n_numbers(experts) // n_experts if experts else 0,
        shared_expert="shared_up" in table,
        affine_heads="mixer_post_norm" not in table,
        scan=_scan(table),
    )


def _scan(table: Shapes) -> Scan | None:
    if "conv" not in table:
        return None
    rates = table["decay"]  # of each number of a state, or of each head
    return Scan(table["x"][0], table["b"][0], rates[0] if len(rates) == 1 else 0)


def with_heads(weights: Mapping[str, Tensor], kept: Sequence[int], n_heads: int, groups: Sequence[int], n_groups: int) -> dict[str, Tensor]:
    """The weights of heads `kept` of `n_heads`, and of key-value heads `groups` of `n_groups`."""

    def part(role: str, t: Tensor) -> Tensor:
        axis, grouped = ROLES[role].heads, ROLES[role].grouped
        if axis is None:
            return t
        pieces = t.unflatten(axis, (n_groups if grouped else n_heads, -1))
        return pieces.index_select(axis, torch.tensor(groups if grouped else kept, device=t.device)).flatten(axis, axis + 1)

    return {role: part(role, t) for role, t in weights.items()}


def _flops(table: Shapes) -> int:
    return 2 * n_numbers({role: shape for role, shape in table.items() if ROLES[role].matrix})
