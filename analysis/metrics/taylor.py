"""First-order estimates of what a removal costs, from one pass forward and one back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapters.action import KEEP
from adapters.base import BlockModel
from adapters.block import Block, Parts, Past
from adapters.checkpoints.streamed import WeightReader
from adapters.errors import StrataError, unknown
from adapters.experts import Routing, experts_of
from adapters.heads import gradient_of_heads
from adapters.memory import free, megabytes
from adapters.shortage import too_little
from adapters.specs import BlockSpec
from adapters.wrapped import WrappedBlock
from analysis.engine.ablations import single_ablations
from analysis.engine.loss_gradient import loss_gradient
from analysis.engine.sweep import graph_bytes
from analysis.engine.tokens import require_finite

GRAPH_BYTES = 256 << 20  # of activations that a pass back needs, about

# (what is removed, the stream that it was added to: their gradients are the same); heads reach it by `gradient_of_heads`,
# and experts share what is removed
TARGETS: dict[str, Callable[[Parts], tuple[Tensor | None, Tensor]]] = {
    "blocks": lambda p: (p.delta_mix + p.delta_ffn, p.x_out),
    "mixers": lambda p: (p.delta_mix, p.x_mid),
    "ffns": lambda p: (p.delta_ffn, p.x_out),
    "heads": lambda p: (p.z, p.x_mid),
    "experts": lambda p: (p.delta_ffn, p.x_out),
}
HAS: dict[str, Callable[[BlockSpec], bool]] = {
    "blocks": lambda spec: True,
    "mixers": lambda spec: spec.has_mixer,
    "ffns": lambda spec: spec.has_ffn,
    "heads": lambda spec: spec.n_heads is not None,
    "experts": lambda spec: spec.n_experts > 0,
}


class NoGradientsError(StrataError):
    """Blocks that no gradient goes through."""


@dataclass(eq=False)
class ScaledBlock(WrappedBlock):
    """A block of which the mixer and the ffn add `scale` of what they did."""

    scale: float

    def close(self, delta: Tensor) -> Tensor:
        return self.scale * self.block.close(delta)

    def ffn(self, x: Tensor, ctx: Any, past: Any = None, without: Tensor | None = None) -> tuple[Tensor, Past | None]:
        delta, after = super().ffn(x, ctx, past, without)
        return self.scale * delta, after

    def share(self, x: Tensor, sent: Routing, expert: int) -> Tensor:
        return self.scale * super().share(x, sent, expert)


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
        if scale != 1:
            tracked.blocks = [ScaledBlock(block, scale) for block in model.blocks]
        graph, room = graph_bytes(model, ids.shape[1]), free(model.device)
        if graph > room and model.reader is None:
            raise too_little(f"gradients need {megabytes(graph)} for one document of {ids.shape[1]} tokens", room, model)
        each = max(1, min(GRAPH_BYTES, room // 2) // graph)
        starts = torch.ones_like(lengths) if first is None else first
        texts = [Texts.of(*(t[at : at + each].to(model.device) for t in (ids, lengths, starts))) for at in range(0, len(ids), each)]
        if (reader := model.reader) is not None:
            columns = _block_by_block(tracked, reader, texts, kinds)
        else:
            tracked.weights = model.weights | {"embed": model.weights["embed"].detach().requires_grad_()}
            columns = [_rises(tracked, text, kinds) for text in texts]
    rises = torch.cat(columns, -1)
    require_finite(rises, f"the Taylor estimate of {model.spec.name}")
    return (rises if signed else rises.abs()).numpy()


class Texts(NamedTuple):
    """Documents that are read together."""

    ids: Tensor  # (D, T)
    lengths: Tensor | None  # (D,), None: all are as long
    scored: tuple[Tensor, ...]  # documents and places of the tokens in front of those that count

    @classmethod
    def of(cls, ids: Tensor, lengths: Tensor, first: Tensor) -> Texts:
        ids = ids[:, : int(lengths.max())]
        target = torch.arange(1, ids.shape[1], device=ids.device)
        scored = ((target < lengths[:, None]) & (target >= first[:, None])).nonzero(as_tuple=True)
        return cls(ids, lengths if bool((lengths < ids.shape[1]).any()) else None, scored)

    def gradient(self, model: BlockModel, h: Tensor) -> Tensor:
        """Of the loss, with respect to h (D, T, d) behind the final norm."""
        found = torch.zeros_like(h)
        found[self.scored] = loss_gradient(model, h[self.scored], self.ids[:, 1:][self.scored]).to(h.dtype)
        return found


def _rises(model: BlockModel, texts: Texts, kinds: list[str]) -> Tensor:
    """Estimated rises of documents: (parts, D)."""
    parts: list[Parts] = []
    h = model.norm(model.stream(texts.ids, lengths=texts.lengths, tap=lambda _, p: parts.append(p)))
    _require_gradients(model, h)
    targets = [(kind, i, TARGETS[kind](p)[1]) for kind in kinds for i, p in enumerate(parts) if HAS[kind](model.blocks[i].spec)]
    gradients = torch.autograd.grad(h, [stream for *_, stream in targets], texts.gradient(model, h))
    return torch.cat([_rise(kind, model.blocks[i], parts[i], g) for (kind, i, _), g in zip(targets, gradients, strict=True)]).cpu()


def _block_by_block(model: BlockModel, reader: WeightReader, texts: Sequence[Texts], kinds: list[str]) -> list[Tensor]:
    """The same of several batches, where weights are streamed: forwards without a graph, then backwards with that of one block

    at a time, which is run again from what entered it. Weights are read twice for all of them.
    """
    n = len(model.blocks)
    with torch.no_grad():
        begun = [model.begin(each.ids, lengths=each.lengths) for each in texts]
        entering = [[x for x, _ in begun]]  # by block, and what leaves the last
        for i in range(n):
            entering.append([model.advance(i, x, ctx, [(0, KEEP)]).x for x, (_, ctx) in zip(entering[-1], begun, strict=True)])
    gradients: list[Tensor] = []
    for x, each in zip(entering.pop(), texts, strict=True):
        h = model.norm(x.requires_grad_())
        gradients += torch.autograd.grad(h, x, each.gradient(model, h))
    found: dict[tuple[str, int, int], Tensor] = {}
    with reader.backwards():
        for i in reversed(range(n)):
            for t, (x, (_, ctx)) in enumerate(zip(entering.pop(), begun, strict=True)):
                parts = model.advance(i, x.requires_grad_(), ctx, [(0, KEEP)]).parts
                assert parts is not None, "one edge"
                _require_gradients(model, parts.x_out)
                mid, before = torch.autograd.grad(parts.x_out, [parts.x_mid, x], gradients[t])
                for kind in kinds:
                    if HAS[kind](model.blocks[i].spec):
                        behind = TARGETS[kind](parts)[1] is parts.x_out
                        found[kind, i, t] = _rise(kind, model.blocks[i], parts, gradients[t] if behind else mid).cpu()
                gradients[t] = before
    return [torch.cat([found[kind, i, t] for kind in kinds for i in range(n) if (kind, i, t) in found]) for t in range(len(texts))]


def _require_gradients(model: BlockModel, x: Tensor) -> None:
    if not x.requires_grad:
        raise NoGradientsError(f"{model.spec.name} has no gradients: what its blocks compute is cut off from autograd; take another metric")


def _rise(kind: str, block: Block, parts: Parts, gradient: Tensor) -> Tensor:
    """Of the parts of one block (parts, D), from the gradient with respect to the stream that they were added to."""
    removed, _ = TARGETS[kind](parts)
    assert removed is not None, "models without heads are refused"
    if kind == "experts":
        return _of_experts(block, parts, gradient)
    if kind == "heads":
        gradient = gradient_of_heads(block, parts, gradient)
    product = -(removed.detach().double() * gradient.double())
    return product.sum((1, 3)).T if kind == "heads" else product.sum((1, 2))[None]


def _of_experts(block: Block, parts: Parts, gradient: Tensor) -> Tensor:
    """Of one block (experts, D): without what an expert gives, where its tokens go to no other."""
    own, x = experts_of(block), (parts.x_in if block.spec.parallel else parts.x_mid).detach()
    sent = own.route(x)
    return torch.stack([-(own.share(x, sent, e).detach().double() * gradient.double()).sum((1, 2)) for e in range(block.spec.n_experts)])
