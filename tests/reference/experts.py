"""Experts of transformers' own models: taken out at the router's logits, and where tokens were sent."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel


class Masked(TorchFunctionMode):
    """Some rows of a matrix give -inf as long as it is on."""

    def __init__(self, weight: Tensor, rows: Collection[int]) -> None:
        super().__init__()
        self.weight, self.rows = weight, sorted(rows)

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> object:
        out = func(*args, **(kwargs or {}))
        if func is torch.nn.functional.linear and args[1] is self.weight:
            out[..., self.rows] = -torch.inf
        return out


def without_experts(mlp: nn.Module, out: Collection[int]) -> None:
    """The router's logit of some experts is -inf. Where that are all, which leaves no number, they give nothing."""
    router = router_of(mlp)
    if len(out) == len(router.weight):
        mlp.experts.register_forward_hook(lambda _, args, given: torch.zeros_like(given))
        return
    plain = router.forward

    def forward(*args: Tensor) -> object:
        with Masked(router.weight, out):
            return plain(*args)

    router.forward = forward


def ffn_of(layer: nn.Module) -> nn.Module:
    return layer.mlp if hasattr(layer, "mlp") else layer.feed_forward


def router_of(ffn: nn.Module) -> nn.Module | None:
    """None where there are no experts."""
    return getattr(ffn, "gate", None) or getattr(ffn, "router", None)


@torch.no_grad()
def chosen_experts(reference: PreTrainedModel, ids: Tensor) -> list[Tensor]:
    """The experts that each token is sent to (tokens, k), by block; none (0,) in a block without any."""
    found = [torch.empty(0, dtype=torch.long) for _ in reference.model.layers]
    handles = []
    for i, layer in enumerate(reference.model.layers):
        if router := router_of(ffn_of(layer)):
            handles.append(router.register_forward_hook(lambda _, args, given, i=i: found.__setitem__(i, _chosen(given, reference))))
    reference(ids, use_cache=False)
    for handle in handles:
        handle.remove()
    return found


def _chosen(given: Tensor | tuple[Tensor, ...], reference: PreTrainedModel) -> Tensor:
    """Of what a router gives: the experts themselves, or logits alone."""
    return given[2] if isinstance(given, tuple) else given.topk(reference.config.num_experts_per_tok, -1).indices
