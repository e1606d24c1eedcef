"""What an ablation saves when its parts are deleted, and losses compared where as much is saved."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from adapters.ablation import Ablation
from adapters.base import BlockModel
from adapters.block import Block
from adapters.roles import shapes_of
from adapters.specs import BlockSpec, ModelSpec
from analysis.display.format import percent
from analysis.display.sentences import Verdict
from analysis.removal.delete_heads import delete_heads
from analysis.stats.intervals import Array, Interval, differing_pairs, ratio


class Saved(NamedTuple):
    """What a deletion takes out of a model."""

    params: int
    flops: int  # for each token; what grows with the context is left out
    idle: int = 0  # of the parameters, those of experts that a token is not sent to


def saved(model: BlockModel, ablation: Ablation) -> Saved:
    """Parameters and FLOPs of the parts of an ablation; heads take what `by_heads` says with them, experts
    their rows of the router. A token is sent to as many experts as before, as long as so many are left."""
    total: list[Saved] = []
    for action, block in zip(ablation.actions(model.spec), model.blocks, strict=True):
        spec = block.spec
        mixer = Saved(spec.mixer_params, spec.mixer_flops)
        if not action.ffn:
            total.append(Saved(spec.n_params - mixer.params, spec.flops_per_token - mixer.flops, spec.n_params - spec.active_params))
        elif action.experts:
            total.append(_experts(spec, len(action.experts), model.spec.d_model))
        if not action.mixer or len(action.heads) == spec.n_heads:
            total.append(mixer)
        elif action.heads:
            total.append(_heads(block, action.heads))
    return Saved(*map(sum, zip(*total, strict=True))) if total else Saved(0, 0)


# What goes with deleted heads, in words, where a block says of its heads that they are not on their own.
BY_HEADS = {
    "joint_heads": "columns of the output projection of deleted heads, and values with the last head that reads them (queries and keys "
    "stay: one norm is over those of all heads)",
    "normed_together": "columns of the output projection of deleted heads, and all else of a mixer with the last of its heads (one norm is "
    "over what all of them give)",
}


def by_heads(model: BlockModel) -> str:
    """In words, what `saved` counts of heads."""
    found = (words for name, words in BY_HEADS.items() if any(getattr(block, name, False) for block in model.blocks))
    return next(found, "rows and columns of deleted heads, and keys and values with the last head that reads them")


def _heads(block: Block, out: Collection[int]) -> Saved:
    """Of heads of a block. Where one norm is over the queries or keys of all of them these stay, and values and outputs go."""
    spec = block.spec
    if not getattr(block, "joint_heads", False):
        left = delete_heads(block.with_weights(shapes_of(block.weights)), out).spec
        return Saved(spec.n_params - left.n_params, spec.flops_per_token - left.flops_per_token)
    n = spec.n_heads or 1
    groups = spec.n_kv_heads or n
    gone = sum(all(head in out for head in range(g * n // groups, (g + 1) * n // groups)) for g in range(groups))
    size = {role: block.weights[role].numel() if role in block.weights else 0 for role in ("o", "v", "v_bias")}
    products = size["o"] * len(out) // n + size["v"] * gone // groups
    return Saved(products + size["v_bias"] * gone // groups, 2 * products)


def _experts(spec: BlockSpec, out: int, d_model: int) -> Saved:
    """Of `out` experts of a block and their rows of its router (d_model,), which every token meets."""
    fewer = max(0, out - (spec.n_experts - spec.experts_per_token))  # that a token is sent to
    params = out * (spec.expert_params + d_model)
    return Saved(params, 2 * (out * d_model + fewer * spec.expert_params), (out - fewer) * spec.expert_params)


# What is equal when costs are: the share of the whole that is saved.
MEASURES: dict[str, Callable[[ModelSpec, Saved], float]] = {
    "block parameters": lambda spec, s: s.params / spec.block_params,
    "all parameters": lambda spec, s: s.params / spec.n_params,
    "active parameters": lambda spec, s: (s.params - s.idle) / spec.active_params,
    "FLOPs": lambda spec, s: s.flops / spec.flops_per_token,
}


def measures(spec: ModelSpec) -> list[str]:
    """Names of MEASURES that differ for a model: parameters that a token meets are all of them where there are no experts."""
    return [name for name in MEASURES if spec.has_experts or name != "active parameters"]


class Curve(NamedTuple):
    """Losses along a removal path, from the dense model on."""

    shares: Mapping[str, Array]  # by measure: what each point saves of the whole, ascending from 0 (points,)
    nll: Array  # (points, documents), sums
    tokens: Array  # (documents,)

    def rise(self, measure: str, share: float, *, below: bool = False) -> Array | None:
        """Rise of each document's loss where `share` is saved, on a line between neighbouring sets.

        None where no set saves so little, or as much; with `below` the line from the unpruned model to the first set counts.
        """
        shares = self.shares[measure]
        if not shares[1 - below] * (1 - 1e-9) <= share <= shares[-1] * (1 + 1e-9):
            return None
        above = max(1, int(np.searchsorted(shares, share - 1e-12)))
        low, high = shares[above - 1], shares[above]
        weight = min(1.0, (share - low) / (high - low))
        return (1 - weight) * self.nll[above - 1] + weight * self.nll[above] - self.nll[0]


class Comparison(NamedTuple):
    """Kinds of parts at one cost."""

    measure: str
    share: float
    rises: dict[str, Interval]  # nats per token, by kind; kinds without sets that save as much are missing
    differing: set[frozenset[str]]  # pairs of kinds whose losses differ significantly
    verdict: Verdict | None  # None: there are no kinds

    @property
    def at(self) -> str:
        return f"{percent(self.share)} of {self.measure}"


def compare(curves: Mapping[str, Curve], measures: Sequence[str], shares: Sequence[float]) -> list[Comparison]:
    """Rises of every kind wherever as much is saved, and which of them differ.

    Differences are paired over documents; false discoveries are held to 5 % among all pairs of one measure.
    """
    return [comparison for measure in measures for comparison in _at(curves, measure, shares)]


def _at(curves: Mapping[str, Curve], measure: str, shares: Sequence[float]) -> list[Comparison]:
    found = [{kind: curve.rise(measure, share) for kind, curve in curves.items()} for share in shares]
    there = [{kind: rise for kind, rise in rises.items() if rise is not None} for rises in found]
    tokens = next(iter(curves.values())).tokens
    return [
        Comparison(
            measure, share, {kind: ratio(rise, tokens) for kind, rise in rises.items()}, pairs, Verdict.of(rises, pairs) if rises else None
        )
        for share, rises, pairs in zip(shares, there, differing_pairs(tokens, *there), strict=True)
    ]
