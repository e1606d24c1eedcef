"""What a single head adds to the stream, and how a loss changes with it."""

from __future__ import annotations

from torch import Tensor
from torch.autograd.functional import vjp

from adapters.block import Block, Parts
from adapters.errors import StrataError


def head_share(block: Block, parts: Parts, head: int) -> Tensor:
    """What one head adds to the stream (rows, T, d): what is missing there without it. Raises StrataError where there are no heads."""
    if parts.z is None or parts.open is None:
        raise StrataError("this architecture has no heads: measure its blocks, mixers or ffns instead")
    share = block.project(parts.z[:, :, head : head + 1], [head])
    return share if block.spec.affine_heads else parts.delta_mix - block.close(parts.open - share)


def gradient_of_heads(block: Block, parts: Parts, gradient: Tensor) -> Tensor:
    """The gradient with respect to z (rows, T, n_heads, head_dim), of one with respect to x_mid (rows, T, d), where all heads are in."""
    assert parts.z is not None, "models without heads are refused"
    assert parts.open is not None
    _, gradient = vjp(block.close, parts.open.detach(), gradient)
    return vjp(block.project, parts.z.detach(), gradient)[1]
