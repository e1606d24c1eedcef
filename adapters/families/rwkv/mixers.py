"""Time-mixing of each RWKV version: from the normed input to what the output projection reads.

Shapes: rows R, time T, width d, heads H of size N. `h` is the normed input and `shifted` the same one token later.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adapters.families.rwkv.wkv import average, delta, linear
from adapters.products import linear as product
from adapters.recurrent import wide

Weights = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a time-mix works on besides its weights."""

    h: Tensor  # (R, T, d)
    shifted: Tensor  # (R, T, d)
    state: Tensor  # of the recurrence, see `wkv`
    n_heads: int  # 1 when the architecture has none
    eps: float  # of the norm over each head's output
    real: Tensor | None  # (R, T, 1) False on padding; None: all are real
    v_first: Tensor | None = None  # (R, T, d) values of the first block, for blocks that read them

    def mix(self, w: Weights, name: str) -> Tensor:
        """RWKV-4 and 5: the weight is the share of the current token."""
        return torch.lerp(self.shifted, self.h, w[f"mix_{name}"])

    def shift(self, weight: Tensor) -> Tensor:
        """RWKV-6 and 7: the weight is the share of the token before."""
        return torch.lerp(self.h, self.shifted, weight)

    def masked(self, x: Tensor) -> Tensor:
        """x (R or 1, T or 1, ...) with zeros on padding."""
        if self.real is None:
            return x
        return torch.where(self.real.unflatten(-1, (1,) * (x.dim() - 2)), x, 0.0)

    def heads(self, x: Tensor) -> Tensor:
        """(R, T, d) -> (R, T, H, N), in fp32 at least."""
        return wide(x).unflatten(-1, (self.n_heads, -1))


TimeMix = Callable[[Weights, Inputs], tuple[Tensor, Tensor]]  # to z (R, T, d) and the state


def dove(w: Weights, x: Inputs) -> tuple[Tensor, Tensor]:
    """RWKV-4 (arXiv 2305.13048)."""
    r, k, v = (product(x.mix(w, c), w[c]) for c in "rkv")
    logw = x.masked(-wide(w["decay"]).exp()[None, None])
    out, state = average(wide(k), wide(v), logw, wide(w["log_bonus"]), x.state, x.real)
    return r.sigmoid() * out.to(r.dtype), state


def eagle(w: Weights, x: Inputs) -> tuple[Tensor, Tensor]:
    """RWKV-5 (arXiv 2404.05892); 5.0 has no gate, and one decay per head like 5.1."""
    r, k, v = (x.heads(product(x.mix(w, c), w[c])) for c in "rkv")
    logw = x.masked(-wide(w["decay"]).exp().view(1, 1, x.n_heads, -1)).expand(-1, k.shape[1], -1, k.shape[3])
    u = wide(w["bonus"]) if "bonus" in w else wide(w["log_bonus"]).exp()
    out, state = linear(r, x.masked(k), v, logw, u.view(x.n_heads, -1).expand(k.shape[2:]), x.state)
    z = _head_norm(w, out, x.eps).to(x.h.dtype)
    return (z * F.silu(product(x.mix(w, "g"), w["g"])) if "g" in w else z), state


def finch(w: Weights, x: Inputs) -> tuple[Tensor, Tensor]:
    """RWKV-6 (arXiv 2404.05892): as 5, with token shift and decay that depend on the token."""
    low = torch.tanh(x.shift(w["mix_x"]) @ w["mix_w1"]).unflatten(-1, (5, 1, -1))  # (R, T, 5, 1, rank)
    mixes = (low @ w["mix_w2"]).squeeze(-2).unbind(2)
    x_w, x_k, x_v, x_r, x_g = (x.shift(w[f"mix_{c}"] + m) for c, m in zip("wkvrg", mixes, strict=True))
    r, k, v = (x.heads(product(y, w[c])) for c, y in (("r", x_r), ("k", x_k), ("v", x_v)))
    logw = -(wide(w["decay"]) + torch.tanh(x_w @ w["decay_w1"]) @ w["decay_w2"]).exp()
    out, state = linear(r, x.masked(k), v, x.masked(x.heads(logw)), wide(w["bonus"]), x.state)
    return _head_norm(w, out, x.eps).to(x.h.dtype) * F.silu(product(x_g, w["g"])), state


def goose(w: Weights, x: Inputs) -> tuple[Tensor, Tensor]:
    """RWKV-7 (arXiv 2503.14456)."""
    x_r, x_w, x_k, x_v, x_a, x_g = (x.shift(w[f"mix_{c}"]) for c in "rwkvag")
    r, k, v = product(x_r, w["r"]), product(x_k, w["k"]), product(x_v, w["v"])
    logw = -math.exp(-0.5) * torch.sigmoid(wide(w["w0"]) + torch.tanh(x_w @ w["w1"]) @ w["w2"])
    rate = torch.sigmoid(w["a0"] + x_a @ w["a1"] @ w["a2"])  # of learning in context
    if "v1" in w:
        assert x.v_first is not None
        v = torch.lerp(v, x.v_first, torch.sigmoid(w["v0"] + x_v @ w["v1"] @ w["v2"]))
    removed = F.normalize(x.heads(k * w["k_k"]), dim=-1)
    r, k, v, rate, logw = (x.heads(y) for y in (r, k * (1 + (rate - 1) * w["k_a"]), v, rate, logw))
    out, state = delta(r, x.masked(logw), x.masked(k), v, -removed, x.masked(removed * rate), x.state)
    bonus = (r * k * w["r_k"]).sum(-1, keepdim=True) * v
    return (_head_norm(w, out, x.eps) + bonus.flatten(-2)).to(x.h.dtype) * (torch.sigmoid(x_g @ w["g1"]) @ w["g2"]), state


def _head_norm(w: Weights, out: Tensor, eps: float) -> Tensor:
    """Norm over each head of (R, T, H, N), then scale and shift: (R, T, d), in fp32."""
    normed = F.layer_norm(out, out.shape[-1:], eps=eps).flatten(-2)
    return torch.addcmul(wide(w["head_norm_bias"]), normed, wide(w["head_norm"]))


TIME_MIXES: dict[str, TimeMix] = {"4": dove, "5.0": eagle, "5.1": eagle, "5.2": eagle, "6": finch, "7": goose}
