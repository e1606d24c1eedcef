"""First-order estimates of what a removal costs, from one pass forward and one back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapters.base import BlockModel, Parts, Past
from adapters.errors import StrataError, unknown
from adapters.heads import gradient_of_heads
from adapters.specs import BlockSpec
from adapters.wrapped import WrappedBlock
from analysis.engine.ablations import single_ablations
from analysis.engine.loss_gradient import loss_gradient
from analysis.engine.sweep import inner_bytes
from analysis.engine.tokens import require_finite

GRAPH_BYTES = 256 << 20  # of activations that a pass back needs, about

# (what is removed, the stream that it was added to: their gradients are the same); heads reach it by `gradient_of_heads`
TARGETS: dict[str, Callable[[Parts], tuple[Tensor | None, Tensor]]] = {
    "blocks": lambda p: (p.delta_mix + p.delta_ffn, p.x_out),
    "mixers": lambda p: (p.delta_mix, p.x_mid),
    "ffns": lambda p: (p.delta_ffn, p.x_out),
    "heads": lambda p: (p.z, p.x_mid),
}
HAS: dict[str, Callable[[BlockSpec], bool]] = {
    "blocks": lambda spec: True,
    "mixers": lambda spec: spec.has_mixer,
    "ffns": lambda spec: spec.has_ffn,
    "heads": lambda spec: spec.n_heads is not None,
}


class NoGradientsError(StrataError):
    """Blocks that no gradient goes through."""


@dataclass(eq=False)
class ScaledBlock(WrappedBlock):
    """A block of which the mixer and the ffn add `scale` of what they did."""

    scale: float

    def close(self, delta: Tensor) -> Tensor:
        return self.scale * self.block.close(delta)

    def ffn(self, x: Tensor, ctx: Any, past: Any = None) -> tuple[Tensor, Past | None]:
        delta, after = self.block.ffn(x, ctx, past)
        return self.scale * delta, after


def taylor(
    model: BlockModel,
    ids: Tensor,
    lengths: Tensor,
    *,
    kinds: Iterable[str] = ("blocks", "mixers", "ffns"),
    signed: bool = False,
    scale: float = 1,
    first: Tensor | None = None,
) -> np.ndarray:
    """|v . dL/dv| of every part (parts, D), in the order of `analysis.engine.ablations.singles`; L: nll in nats of the document.

    v is what a part adds to the stream, or a head's z; the product runs over all tokens of a document before it is made
    positive (Michel et al., arXiv 1905.10650, equation 2). `signed` keeps -v . dL/dv, the estimated rise of L without the
    part. With a `scale` it is taken of a model in which every part adds that share of what it does. L is the loss of all tokens but the
    first, or of those from `first` (D,) on. One pass forward and one back for as many documents as GRAPH_BYTES hold. Raises
    StrataError on an unknown kind, on heads that do not exist, and on a value that is not finite.
    """
    kinds = list(kinds)
    for kind in kinds:
        if kind not in TARGETS:
            raise unknown("kind", kind, TARGETS)
    single_ablations(model.spec, kinds)  # are there heads?
    with torch.inference_mode(False), torch.enable_grad():
        tracked = copy.copy(model)
        tracked.weights = model.weights | {"embed": model.weights["embed"].detach().requires_grad_()}
        if scale != 1:
            tracked.blocks = [ScaledBlock(block, scale) for block in model.blocks]
        each = max(1, GRAPH_BYTES // (len(model.blocks) * 2 * inner_bytes(model, ids.shape[1])))
        starts = torch.ones_like(lengths) if first is None else first
        parts = [[t[at : at + each].to(model.device) for t in (ids, lengths, starts)] for at in range(0, len(ids), each)]
        columns = [_rises(tracked, *part, kinds=kinds) for part in parts]
    rises = torch.cat(columns, -1)
    require_finite(rises, f"the Taylor estimate of {model.spec.name}")
    return (rises if signed else rises.abs()).numpy()


def _rises(model: BlockModel, ids: Tensor, lengths: Tensor, first: Tensor, *, kinds: list[str]) -> Tensor:
    """Estimated rises of documents (D, T): (parts, D)."""
    ids = ids[:, : int(lengths.max())]
    parts: list[Parts] = []
    ragged = bool((lengths < ids.shape[1]).any())
    h = model.norm(model.stream(ids, lengths=lengths if ragged else None, tap=lambda _, p: parts.append(p)))
    if not h.requires_grad:
        raise NoGradientsError(f"{model.spec.name} has no gradients: what its blocks compute is cut off from autograd; take another metric")
    target = torch.arange(1, ids.shape[1], device=ids.device)
    scored = ((target < lengths[:, None]) & (target >= first[:, None])).nonzero(as_tuple=True)  # of the tokens before
    at_head = torch.zeros_like(h)
    at_head[scored] = loss_gradient(model, h[scored], ids[:, 1:][scored]).to(h.dtype)
    targets = [(kind, i, *TARGETS[kind](p)) for kind in kinds for i, p in enumerate(parts) if HAS[kind](model.blocks[i].spec)]
    gradients = torch.autograd.grad(h, [stream for *_, stream in targets], at_head)
    rises = []
    for (kind, i, removed, _), gradient in zip(targets, gradients, strict=True):
        assert removed is not None, "models without heads are refused"
        if kind == "heads":
            gradient = gradient_of_heads(model.blocks[i], parts[i], gradient)
        product = -(removed.detach().double() * gradient.double())
        rises.append(product.sum((1, 3)).T if kind == "heads" else product.sum((1, 2))[None])
    return torch.cat(rises).cpu()
