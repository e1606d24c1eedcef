"""First-order estimates of what a removal costs, from one backward pass for each document."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from adapters.base import BlockModel, Parts
from adapters.errors import unknown
from adapters.heads import gradient_of_heads
from analysis.engine.ablations import single_ablations
from analysis.engine.tokens import require_finite

# (what is removed, the stream that it was added to: their gradients are the same); heads reach it by `gradient_of_heads`
TARGETS: dict[str, Callable[[Parts], tuple[Tensor | None, Tensor]]] = {
    "blocks": lambda p: (p.delta_mix + p.delta_ffn, p.x_out),
    "mixers": lambda p: (p.delta_mix, p.x_mid),
    "ffns": lambda p: (p.delta_ffn, p.x_out),
    "heads": lambda p: (p.z, p.x_mid),
}


def taylor(
    model: BlockModel, ids: Tensor, lengths: Tensor, *, kinds: Iterable[str] = ("blocks", "mixers", "ffns"), signed: bool = False
) -> np.ndarray:
    """|v . dL/dv| of every part (parts, D), in the order of `analysis.engine.ablations.singles`; L: nll in nats of the document.

    v is what a part adds to the stream, or a head's z; the product runs over all tokens of a document before it is made
    positive (Michel et al., arXiv 1905.10650, equation 2). `signed` keeps -v . dL/dv, the estimated rise of L without the
    part. Documents go one by one: memory is that of a training step on one document. Raises StrataError on an
    unknown kind, on heads that do not exist, and on a value that is not finite.
    """
    kinds = list(kinds)
    for kind in kinds:
        if kind not in TARGETS:
            raise unknown("kind", kind, TARGETS)
    single_ablations(model.spec, kinds)  # are there heads?
    with torch.inference_mode(False), torch.enable_grad():
        tracked = copy.copy(model)
        tracked.weights = model.weights | {"embed": model.weights["embed"].detach().requires_grad_()}
        columns = [_rises(tracked, row[None, : int(n)].to(model.device), kinds) for row, n in zip(ids, lengths, strict=True)]
    rises = torch.stack(columns, -1)
    require_finite(rises, f"the Taylor estimate of {model.spec.name}")
    return (rises if signed else rises.abs()).numpy()


def _rises(model: BlockModel, ids: Tensor, kinds: list[str]) -> Tensor:
    """Estimated rises of one document (1, T): (parts,)."""
    parts: list[Parts] = []
    x = model.stream(ids, tap=lambda _, p: parts.append(p))
    loss = F.cross_entropy(model.logits(x[0, :-1]).float(), ids[0, 1:], reduction="sum")
    targets = [(kind, i, *TARGETS[kind](p)) for kind in kinds for i, p in enumerate(parts)]
    gradients = torch.autograd.grad(loss, [stream for *_, stream in targets])
    rises = []
    for (kind, i, removed, _), gradient in zip(targets, gradients, strict=True):
        assert removed is not None, "models without heads are refused"
        if kind == "heads":
            gradient = gradient_of_heads(model.blocks[i], parts[i], gradient)
        product = -(removed.detach().double() * gradient.double())[0]
        rises.append(product.sum((0, 2)) if kind == "heads" else product.sum()[None])
    return torch.cat(rises).cpu()
