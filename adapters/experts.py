"""Experts: a router sends each token to a few of many small MLPs, and what they give is summed by its weights.

An expert that is out is one that the router does not see, as in a checkpoint without it: its logit is -inf. Its tokens go to others.
Tokens that would not have come to it are as they were where weights are renormalised over those that a token is sent to; in models
where they are shares among all experts, that of the missing one is spread over all, and they grow a little.

Shapes: n tokens, E experts, k of them for each token, f their inner width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import comb
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor

from adapters.errors import StrataError
from adapters.products import linear
from adapters.specs import BlockSpec

Out = frozenset[int]  # experts that are out


class Routing(NamedTuple):
    """Where tokens are sent. An expert that is out has weight zero where it fills a place that no other could."""

    experts: Tensor  # (..., k)
    weights: Tensor  # (..., k)
    shares: Tensor  # (..., E) of all of them, which sum to one


class HasExperts(Protocol):
    """What a block with experts has beside the methods of `Block`. Its ffn reads each token by itself, and keeps no past."""

    @property
    def spec(self) -> BlockSpec: ...

    @property
    def renormalised(self) -> bool: ...  # the weights of a token's experts sum to one

    def ffn(self, x: Tensor, ctx: Any, past: Any = None, without: Tensor | None = None) -> tuple[Tensor, Any]:
        """As that of `Block`, and of tokens (n, d) as well. `without` is True for experts that the router does not see; its shape
        is (E,) or fits that of (*tokens, E). Where all are out, none gives anything; an MLP beside them stays.
        """
        ...

    def route(self, x: Tensor, without: Tensor | None = None) -> Routing:
        """Where the ffn sends the tokens of its input (..., d)."""
        ...

    def share(self, x: Tensor, sent: Routing, expert: int) -> Tensor:
        """What one expert adds to the stream (..., d), of the ffn's input and where it sends it: nothing to tokens of others."""
        ...

    def keep_experts(self, kept: Sequence[int]) -> Any:
        """The block on the weights of these experts, ascending: what it gives is what it gives with all others ablated."""
        ...

    def beside(self, x: Tensor) -> Tensor | None:
        """What the ffn gives for its input (..., d) beside its experts; None: nothing."""
        ...


def experts_of(block: object) -> HasExperts:
    """The block. Raises StrataError when it has no experts."""
    if not cast(HasExperts, block).spec.n_experts:
        raise StrataError("this architecture has no experts: ablate its blocks, mixers or ffns instead")
    return cast(HasExperts, block)


def route(logits: Tensor, k: int, renormalised: bool, without: Tensor | None = None) -> Routing:
    """The k likeliest experts of each token by a softmax of the router's logits (..., E); those of `without` have a logit of -inf.

    Weights are their probabilities, or `renormalised` so that they sum to one.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    shares = (logits if without is None else logits.masked_fill(without, -torch.inf)).softmax(-1)
    weights, experts = shares.topk(k, -1)
    weights = weights / weights.sum(-1, keepdim=True) if renormalised else weights
    weights = weights if without is None else weights.masked_fill(without.all(-1, keepdim=True), 0)
    return Routing(experts, weights, shares)


def mixed(h: Tensor, to: Routing, weights: Mapping[str, Tensor], act: Callable[[Tensor], Tensor]) -> Tensor:
    """What the experts give for the tokens h (n, d), each expert read once for all tokens that are sent to it."""
    out = torch.zeros_like(h)
    if h.device.type == "meta":  # shapes alone: nobody knows who goes where
        return out
    k = to.experts.shape[-1]
    order = to.experts.flatten().argsort(stable=True)  # by expert, of each the tokens in their order
    shares = to.weights.flatten()[order].to(h.dtype)
    ends = torch.bincount(to.experts.flatten(), minlength=len(weights["router"])).cumsum(0).tolist()
    for expert, (first, last) in enumerate(zip([0, *ends], ends, strict=False)):
        if first < last:
            tokens = order[first:last] // k
            gate, up, down = (weights[f"expert_{role}"][expert] for role in ("gate", "up", "down"))
            inner = act(linear(h[tokens], gate)) * linear(h[tokens], up)  # (tokens, f)
            out.index_add_(0, tokens, linear(inner, down) * shares[first:last, None])
    return out


def weight_of(sent: Routing, expert: int) -> Tensor:
    """Of one expert for each token (...,); zero where it is not sent there."""
    return (sent.weights * (sent.experts == expert)).sum(-1)


def in_common(outs: Iterable[Out]) -> Out:
    """What is out of a stream when its ffn runs once for all of `outs`: the ffn then runs again for those who want more out."""
    return frozenset.intersection(*outs)


def met(spec: BlockSpec, base: Out, out: Out) -> float:
    """The share of tokens for which the ffn runs again without `out` behind a run without `base`: those that were sent to any of them.

    Expected where all experts are as likely. Summed over single experts it is exact, for each token is sent to k of them.
    """
    left, more, k = spec.n_experts - len(base), len(out - base), spec.experts_per_token
    return 1 - comb(left - more, k) / comb(left, k) if k <= left else 1.0


def feed(
    block: HasExperts, xs: Sequence[Tensor], asked: Sequence[tuple[int, Out]], ctx: Any, past: Any
) -> tuple[dict[tuple[int, Out], Tensor], Any]:
    """What the ffn adds to each stream of `xs` (D, T, d) without the experts that are `asked` to be out of it, and its past.

    The ffn runs once on a stream, without the experts that all want out; for each of the others it runs again on the tokens
    that had been sent to an expert which is out then, all of these in one call. What it gives for other tokens is as before, exactly,
    or grows by what their weights do.
    """
    base = [in_common(out for stream, out in asked if stream == s) for s in range(len(xs))]
    x = torch.stack(list(xs))  # (streams, D, T, d)
    without = _mask(block, base, x)[:, None, None] if any(base) else None  # (streams, 1, 1, E)
    rows = None if without is None else without.expand(-1, x.shape[1], -1, -1).flatten(0, 1)
    fed, past = block.ffn(x.flatten(0, 1), ctx, past) if rows is None else block.ffn(x.flatten(0, 1), ctx, past, rows)
    deltas = fed.view_as(x)
    found = {(s, out): deltas[s] for s, out in enumerate(base)}
    more = [(s, out) for s, out in asked if out != base[s]]
    return found | (_again(block, x, deltas, base, more, ctx, without) if more else {}), past


def _again(
    block: HasExperts, x: Tensor, deltas: Tensor, base: Sequence[Out], more: Sequence[tuple[int, Out]], ctx: Any, without: Tensor | None
) -> dict[tuple[int, Out], Tensor]:
    """For `more` (M of them), from `deltas` of the streams x (streams, D, T, d) without `base`."""
    of = torch.tensor([s for s, _ in more], device=x.device)
    some, at = of.unique(return_inverse=True)  # streams, each once; which of these
    sent = block.route(x[some], None if without is None else without[some])
    chosen, gone = sent.experts[at], _mask(block, [out - base[s] for s, out in more], x)  # (M, D, T, k), (M, E)
    before = deltas[of]  # (M, D, T, d)
    if not block.renormalised:
        share = torch.einsum("mdte,me->mdt", sent.shares[at], gone.to(sent.shares.dtype))
        # by how much of what experts give: added to it, for a factor near one would be rounded away in bf16
        more_of, rest = (share / (1 - share))[..., None].to(before.dtype), block.beside(x[some])
        before = torch.addcmul(before, before if rest is None else before - rest[at], more_of)
    hit = gone.gather(1, chosen.flatten(1)).view_as(chosen).any(-1)  # (M, D, T)
    which, *place = hit.nonzero(as_tuple=True)
    fed, _ = block.ffn(x[of[which], *place], ctx, None, _mask(block, [out for _, out in more], x)[which])
    return dict(zip(more, before.index_put((which, *place), fed), strict=True))


def _mask(block: HasExperts, outs: Sequence[Out], x: Tensor) -> Tensor:
    """(len(outs), E), where x is."""
    return torch.tensor([[e in out for e in range(block.spec.n_experts)] for out in outs], device=x.device)
