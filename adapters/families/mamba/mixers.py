"""The mixers of Mamba, Falcon-Mamba and Mamba-2: from the normed input to what the output projection reads.

Shapes: rows R, time T, width d, inner channels C, state size N, heads H. The convolution and all behind it is in fp32 at least.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from adapters.families.mamba.scan import dual, selective
from adapters.norms import rms_norm
from adapters.products import linear
from adapters.recurrent import wide

Weights = dict[str, Tensor]  # by role


class How(NamedTuple):
    """What weights do not say of a mixer."""

    n_heads: int | None = None
    eps: float | None = None  # of norms inside: over all heads, or of b, c and steps; None: there are none
    steps: tuple[float, float] = (0.0, float("inf"))  # from and to which a step goes
    kept: tuple[int, ...] | None = None  # heads that are given; None: all


Before = tuple[
    Tensor | None, Tensor | None
]  # what the convolution read last (R, kernel - 1, channels), and the state; None: nothing was read
Mixed = tuple[Tensor, Tensor, Tensor]  # z (R, T, C), and these two behind the last real token
Mixer = Callable[[Weights, How, Tensor, Tensor | None, Before], Mixed]  # of h (R, T, d) and how many tokens of each row are real (R,)


def mamba(w: Weights, how: How, h: Tensor, lengths: Tensor | None, before: Before) -> Mixed:
    """Mamba (arXiv 2312.00752), and with norms of steps, b and c Falcon-Mamba (arXiv 2410.05355)."""
    x, gate = _linear(w, h, "x"), _linear(w, h, "g")
    x, conv = _convolved(w, x, lengths, before[0])
    narrow = x.to(h.dtype)
    low, b, c = (_normed(w, linear(narrow, w[role]), role, how) for role in ("step_in", "b", "c"))
    step = _masked(_step(linear(low, w["step"]), w["step_bias"], how), lengths)
    y, state = selective(x, step, -wide(w["decay"]).exp(), wide(b), wide(c), before[1])
    z = torch.addcmul(y, x, wide(w["skip"])) * F.silu(wide(gate))
    return z.to(h.dtype), conv, state


def mamba2(w: Weights, how: How, h: Tensor, lengths: Tensor | None, before: Before) -> Mixed:
    """Mamba-2 (arXiv 2405.21060). Its norm is over the channels of all heads, behind the gate."""
    parts = [_linear(w, h, role) for role in ("x", "b", "c")]
    mixed, conv = _convolved(w, torch.cat(parts, -1), lengths, before[0])
    x, b, c = mixed.split([part.shape[-1] for part in parts], -1)
    x = x.unflatten(-1, (how.n_heads, -1))  # (R, T, H, P)
    step = _masked(_step(_linear(w, h, "step_in"), w["step_bias"], how), lengths)
    y, state = dual(x, step, -wide(w["decay"]).exp(), b, c, before[1])
    y = torch.addcmul(y, x, wide(w["skip"])[:, None]).flatten(-2)
    unit = rms_norm(y * F.silu(wide(_linear(w, h, "g"))), None, how.eps or 0.0)
    if how.kept is not None:
        unit = unit.unflatten(-1, (how.n_heads, -1))[..., list(how.kept), :].flatten(-2)
    return w["head_norm"] * unit.to(h.dtype), conv, state


MIXERS: dict[str, Mixer] = {"mamba": mamba, "falcon_mamba": mamba, "mamba2": mamba2}


def _linear(w: Weights, x: Tensor, role: str) -> Tensor:
    return linear(x, w[role], w.get(f"{role}_bias"))


def _normed(w: Weights, x: Tensor, role: str, how: How) -> Tensor:
    return x if how.eps is None else rms_norm(x, w.get(f"{role}_norm"), how.eps)


def _step(x: Tensor, bias: Tensor, how: How) -> Tensor:
    return F.softplus(wide(x) + wide(bias)).clamp(*how.steps)


def _masked(step: Tensor, lengths: Tensor | None) -> Tensor:
    """Zero on padding."""
    if lengths is None:
        return step
    real = torch.arange(step.shape[1], device=step.device) < lengths[:, None]
    return torch.where(real[..., None], step, 0.0)


def _convolved(w: Weights, x: Tensor, lengths: Tensor | None, before: Tensor | None) -> tuple[Tensor, Tensor]:
    """Each channel of x (R, T, channels) over the last tokens, then SiLU; and what is read for the next token."""
    kernel = wide(w["conv"]).flatten(1).T.contiguous()  # (tokens, channels)
    time, n = x.shape[1], len(kernel)
    whole = torch.cat([x.new_zeros(len(x), n - 1, x.shape[2]) if before is None else before, x], 1)
    read = wide(whole)
    out = wide(w["conv_bias"]) if "conv_bias" in w else read.new_zeros(())
    for k in range(n):
        out = torch.addcmul(out, read[:, k : k + time], kernel[k])
    if lengths is None:
        return F.silu(out), whole[:, time:].clone()  # a view would keep all of it
    last = lengths[:, None] + torch.arange(n - 1, device=x.device)
    return F.silu(out), whole[torch.arange(len(x), device=x.device)[:, None], last]
