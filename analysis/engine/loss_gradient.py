"""How the loss of tokens changes with what the head reads, in blocks of the vocabulary: no graph through logits, and none are kept."""

from __future__ import annotations

import torch
from torch import Tensor

from adapters.base import BlockModel
from analysis.engine.text_scores import slices, vocabulary
from analysis.engine.tokens import wide

ROWS = 1024  # at a time: the logits of so many tokens for each other's targets take 4 MB


def loss_gradient(model: BlockModel, h: Tensor, targets: Tensor) -> Tensor:
    """d nll / d h for tokens whose next ones are `targets` (rows,); h (rows, d) is behind the final norm. In fp32 or better.

    The mean of the logits' gradients under the softmax, summed up as logsumexp is, less that of the target's logit. A block's own
    gradients come from autograd, since families scale and cap logits.
    """
    parts = [_gradient(model, h[where], targets[where]) for where in slices(len(h), -(-len(h) // ROWS))]
    return torch.cat(parts) if parts else wide(h)


def _gradient(model: BlockModel, h: Tensor, targets: Tensor) -> Tensor:
    h = h.detach()
    top = wide(h).new_full((len(h), 1), -torch.inf)
    total, pulled = torch.zeros_like(top), torch.zeros_like(wide(h))
    for block in vocabulary(model, len(h)):
        logits, back = _unembedded(model, h, block)
        highest = torch.maximum(top, logits.amax(-1, keepdim=True))
        kept, weights = (top - highest).exp(), (logits - highest).exp()
        total, pulled, top = total * kept + weights.sum(-1, keepdim=True), pulled * kept + back(weights), highest
    _, back = _unembedded(model, h, targets)  # (rows, rows): each token's own target is on the diagonal
    return pulled / total - back(torch.eye(len(h), dtype=top.dtype, device=h.device))


def _unembedded(model: BlockModel, h: Tensor, tokens: slice | Tensor):  # type: ignore[no-untyped-def]
    """Logits (rows, tokens), and what makes the gradient of h (rows, d) of one of them."""
    with torch.enable_grad():
        h = h.requires_grad_()
        logits = model.unembed(h, tokens)

    def back(gradient: Tensor) -> Tensor:
        return wide(torch.autograd.grad(logits, h, gradient.to(logits.dtype))[0])

    return wide(logits.detach()), back
