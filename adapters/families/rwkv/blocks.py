"""One RWKV block: a time-mix and a channel-mix, each on its own norm and one step of token shift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from adapters.block import Context, MixerOutput
from adapters.errors import StrataError
from adapters.families.rwkv.mixers import TIME_MIXES, Inputs
from adapters.families.rwkv.wkv import EMPTY
from adapters.products import linear
from adapters.recurrent import by_rows, repeated, wide
from adapters.roles import shapes_by_role, spec_of, with_heads
from adapters.specs import BlockSpec
from adapters.wrapped import WrappedBlock


@dataclass(frozen=True, slots=True, kw_only=True)
class RwkvContext(Context):
    """`v_first` is the first block's value of every token, without the part of the token before the batch's first;
    `v_carry` is that part for the token behind each document's last. None unless blocks read them (RWKV-7)."""

    PER_DOCUMENT = ("lengths", "real", "v_first", "v_carry")

    real: Tensor | None = None  # (D, T) False on padding; None: all are real
    v_first: Tensor | None = None  # (D, T, d)
    v_carry: Tensor | None = None  # (D, d)


@dataclass(frozen=True, slots=True)
class RwkvPast:
    """What a mixer or an ffn keeps of each row, up to its last real token."""

    shift: Tensor  # (rows, d), the last normed input
    state: Tensor | None = None  # of the recurrence
    v_carry: Tensor | None = None  # (rows, d), see RwkvContext

    def rows(self, index: Tensor) -> RwkvPast:
        state, v_carry = (None if t is None else t[index] for t in (self.state, self.v_carry))
        return RwkvPast(self.shift[index], state, v_carry)

    def live(self, skip: int) -> RwkvPast:
        """As it is: a state holds no tokens."""
        return self

    def joined(self, others: Sequence[RwkvPast]) -> RwkvPast:
        parts = [(past.shift, past.state, past.v_carry) for past in (self, *others)]
        shift, state, v_carry = (None if column[0] is None else torch.cat(column) for column in zip(*parts, strict=True))
        assert shift is not None
        return RwkvPast(shift, state, v_carry)

    def behind(self, beginnings: RwkvPast, owner: Tensor) -> RwkvPast:
        return self


@dataclass(frozen=True, slots=True)
class RwkvBlock:
    spec: BlockSpec
    weights: dict[str, Tensor]  # by role, see layouts.block_shapes
    version: str
    norm_eps: float
    head_norm_eps: float

    def with_weights(self, weights: dict[str, Tensor]) -> RwkvBlock:
        return replace(self, weights=weights)

    def mix(self, x: Tensor, ctx: RwkvContext, past: RwkvPast | None = None) -> MixerOutput:
        h, shifted, last = self._shifted(x, "mixer_norm", ctx, past)
        real = None if ctx.real is None else repeated(ctx.real, ctx, x)[..., None]
        state = self._empty(h) if past is None or past.state is None else past.state
        v_first, v_carry = (self._v_first(ctx, x, past), self._v_carry(ctx, x, past)) if "v1" in self.weights else (None, None)
        z, state = by_rows(self._time_mix, h, shifted, state, real, v_first)
        after = RwkvPast(last, state, v_carry)
        if self.spec.n_heads is None:
            return MixerOutput(linear(z, self.weights["o"]), None, after)
        z = z.unflatten(-1, (self.spec.n_heads, -1))  # (rows, T, n_heads, head_dim)
        return MixerOutput(self.project(z), z, after)

    def _time_mix(self, h: Tensor, shifted: Tensor, state: Tensor, real: Tensor | None, v_first: Tensor | None) -> tuple[Tensor, Tensor]:
        inputs = Inputs(h, shifted, state, self.spec.n_heads or 1, self.head_norm_eps, real, v_first)
        return TIME_MIXES[self.version](self.weights, inputs)

    def project(self, z: Tensor, heads: Sequence[int] | None = None) -> Tensor:
        if self.spec.n_heads is None:
            raise StrataError(f"RWKV-{self.version} has no heads: ablate its blocks, mixers or ffns instead")
        o = self.weights["o"].unflatten(1, (self.spec.n_heads, -1))  # (d, n_heads, head_dim)
        return linear(z.flatten(-2), (o if heads is None else o[:, list(heads)]).flatten(1))

    def close(self, delta: Tensor) -> Tensor:
        return delta

    def keep_heads(self, kept: Sequence[int]) -> NarrowTimeMix:
        n = self.spec.n_heads or 0
        weights = with_heads(self.weights, kept, n, kept, n)
        return NarrowTimeMix(replace(self, spec=spec_of(shapes_by_role(weights), len(kept)), weights=weights), tuple(kept))

    def ffn(self, x: Tensor, ctx: RwkvContext, past: RwkvPast | None = None) -> tuple[Tensor, RwkvPast]:
        h, shifted, last = self._shifted(x, "ffn_norm", ctx, past)
        (out,) = by_rows(self._channel_mix, h, shifted)
        return out, RwkvPast(last)

    def _channel_mix(self, h: Tensor, shifted: Tensor) -> tuple[Tensor]:
        w = self.weights
        out = linear(linear(self._mixed(h, shifted, "ffn_mix_k"), w["up"]).relu().square(), w["down"])
        return (self._gate(h, shifted) * out if "receptance" in w else out,)

    def gate(self, x: Tensor, ctx: RwkvContext) -> Tensor:
        """What RWKV-4 to 6, which have the role `receptance`, multiply the output of their ffn with: (rows, T, d)."""
        return self._gate(*self._shifted(x, "ffn_norm", ctx, None)[:2])

    def _gate(self, h: Tensor, shifted: Tensor) -> Tensor:
        return linear(self._mixed(h, shifted, "ffn_mix_r"), self.weights["receptance"]).sigmoid()

    def _mixed(self, h: Tensor, shifted: Tensor, role: str) -> Tensor:
        a, b = (shifted, h) if self.version[0] in "45" else (h, shifted)  # a mix is the share of the current token, later of the one before
        return torch.lerp(a, b, self.weights[role])

    def value(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """v_first and v_carry of RwkvContext, of this block as the first: v = V (h + mix * (h one token before - h))."""
        w = self.weights
        h = self._norm(x, "mixer_norm")
        shifted = torch.cat([torch.zeros_like(h[:, :1]), h[:, :-1]], 1)
        last = h[:, -1]
        if lengths is not None:
            last = h[torch.arange(len(h), device=h.device), lengths - 1] * (lengths > 0)[:, None]
        return linear(torch.lerp(h, shifted, w["mix_v"]), w["v"]), linear(w["mix_v"] * last, w["v"])

    def _norm(self, x: Tensor, role: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weights[role], self.weights[role + "_bias"], self.norm_eps)

    def _shifted(self, x: Tensor, role: str, ctx: RwkvContext, past: RwkvPast | None) -> tuple[Tensor, Tensor, Tensor]:
        """The normed input, the same one token later, and its last real token (rows, d)."""
        h = self._norm(x, role)
        before = torch.cat([torch.zeros_like(h[:, :1]) if past is None else past.shift[:, None], h], 1)  # (rows, T + 1, d)
        if ctx.real is None:
            return h, before[:, :-1], before[:, -1]
        ends = repeated(ctx.real.sum(1), ctx, x)
        return h, before[:, :-1], before[torch.arange(len(x), device=x.device), ends]

    def _empty(self, h: Tensor) -> Tensor:
        rows, d = h.shape[0], h.shape[-1]
        zeros = wide(h).new_zeros
        if self.spec.n_heads is None:
            return torch.cat([zeros(rows, 2, d), zeros(rows, 1, d) + EMPTY], 1)
        return zeros(rows, self.spec.n_heads, self.spec.head_dim or 0, self.spec.head_dim or 0)

    def _v_first(self, ctx: RwkvContext, x: Tensor, past: RwkvPast | None) -> Tensor:
        assert ctx.v_first is not None
        v_first = repeated(ctx.v_first, ctx, x)
        if past is None or past.v_carry is None:
            return v_first
        return torch.cat([v_first[:, :1] + past.v_carry[:, None], v_first[:, 1:]], 1)

    def _v_carry(self, ctx: RwkvContext, x: Tensor, past: RwkvPast | None) -> Tensor:
        """That of this call, or of the past for rows without a real token."""
        assert ctx.v_carry is not None
        carry = repeated(ctx.v_carry, ctx, x)
        if ctx.real is None or past is None or past.v_carry is None:
            return carry
        return torch.where(repeated(ctx.real[:, :1], ctx, x), carry, past.v_carry)


@dataclass(eq=False)
class NarrowTimeMix(WrappedBlock):
    """A time-mix with fewer heads, on the weights that are left, which reads their channels of RWKV-7's v_first."""

    kept: tuple[int, ...]  # heads by their number before

    def mix(self, x: Tensor, ctx: RwkvContext, past: RwkvPast | None = None) -> MixerOutput:
        if ctx.v_first is not None and ctx.v_carry is not None:
            ctx = replace(ctx, v_first=self._channels(ctx.v_first), v_carry=self._channels(ctx.v_carry))
        return super().mix(x, ctx, past)

    def _channels(self, v: Tensor) -> Tensor:
        return v.unflatten(-1, (-1, self.spec.head_dim))[..., list(self.kept), :].flatten(-2)
