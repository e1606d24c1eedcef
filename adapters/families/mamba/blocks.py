"""One block of a state-space model: a mixer on a norm, and no ffn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adapters.block import Context, MixerOutput
from adapters.errors import StrataError
from adapters.families.mamba.mixers import How, Mixed, Mixer, Weights
from adapters.families.mamba.scan import numbers
from adapters.norms import rms_norm
from adapters.products import linear
from adapters.recurrent import at_once, by_rows, repeated
from adapters.roles import shapes_by_role, spec_of, with_heads
from adapters.specs import BlockSpec, Scan

GPU_TOKENS = 16384  # at a time: what a scan holds for each is many times a stream


@dataclass(frozen=True, slots=True)
class MambaPast:
    """What a mixer keeps of each row, up to its last real token."""

    conv: Tensor  # (rows, kernel - 1, channels), what the convolution read last
    state: Tensor  # of the recurrence

    def rows(self, index: Tensor) -> MambaPast:
        return MambaPast(self.conv[index], self.state[index])

    def live(self, skip: int) -> MambaPast:
        """As it is: a state holds no tokens."""
        return self

    def joined(self, others: Sequence[MambaPast]) -> MambaPast:
        pasts = [self, *others]
        return MambaPast(torch.cat([past.conv for past in pasts]), torch.cat([past.state for past in pasts]))

    def behind(self, beginnings: MambaPast, owner: Tensor) -> MambaPast:
        return self


def run(mixer: Mixer, w: Weights, how: How, h: Tensor, ctx: Context, past: MambaPast | None) -> tuple[Tensor, MambaPast]:
    """What the output projection reads (rows, T, channels), of the normed input (rows, T, d)."""
    lengths = None if ctx.lengths is None else repeated(ctx.lengths, ctx, h)
    before = (None, None) if past is None else (past.conv, past.state)

    def mixed(h: Tensor, lengths: Tensor | None, conv: Tensor | None, state: Tensor | None) -> Mixed:
        return mixer(w, how, h, lengths, (conv, state))

    z, conv, state = by_rows(mixed, h, lengths, *before, elsewhere=GPU_TOKENS)
    return z, MambaPast(conv, state)


def scan_bytes(scan: Scan, device: torch.device, dtype: torch.dtype, tokens: int, time: int, *, graph: bool) -> int:
    """What a mixer holds inside for `tokens` tokens in rows of `time`: a `graph` keeps all, a pass what is worked on at a time."""
    most = None if graph else at_once(device, GPU_TOKENS)
    worked_on = tokens if most is None else min(tokens, max(most, time))
    return worked_on * numbers(scan, time, graph=graph) * torch.promote_types(dtype, torch.float32).itemsize


@dataclass(frozen=True, slots=True)
class MambaBlock:
    spec: BlockSpec
    weights: dict[str, Tensor]  # by role
    mixer: Mixer
    how: How
    eps: float

    def with_weights(self, weights: dict[str, Tensor]) -> MambaBlock:
        return replace(self, weights=weights)

    def mix(self, x: Tensor, ctx: Context, past: MambaPast | None = None) -> MixerOutput:
        h = rms_norm(x.to(self.weights["mixer_norm"].dtype), self.weights["mixer_norm"], self.eps)
        z, after = run(self.mixer, self.weights, self.how, h, ctx, past)
        if self.spec.n_heads is None:
            return MixerOutput(linear(z, self.weights["o"], self.weights.get("o_bias")), None, after)
        z = z.unflatten(-1, (self.spec.n_heads, -1))  # (rows, T, n_heads, head_dim)
        delta = self.project(z)
        return MixerOutput(delta + self.weights["o_bias"] if "o_bias" in self.weights else delta, z, after)

    def project(self, z: Tensor, heads: Sequence[int] | None = None) -> Tensor:
        o = self.weights["o"].unflatten(1, (self._heads(), -1))  # (d, n_heads, head_dim)
        return linear(z.flatten(-2), (o if heads is None else o[:, list(heads)]).flatten(1))

    def close(self, delta: Tensor) -> Tensor:
        return delta

    @property
    def normed_together(self) -> bool:
        """One norm is over what all heads give, so that those whose output is not read are still computed."""
        return "head_norm" in self.weights

    def keep_heads(self, kept: Sequence[int]) -> MambaBlock:
        """Weights of the output projection, and of the norm in front of it, go: no others can (`normed_together`)."""
        n = self._heads()
        behind = {role: self.weights[role] for role in ("head_norm", "o")}
        weights = self.weights | with_heads(behind, kept, n, kept, n)
        before = self.how.kept or range(n)
        how = self.how._replace(kept=tuple(before[head] for head in kept))
        return replace(self, spec=spec_of(shapes_by_role(weights), len(kept)), weights=weights, how=how)

    def _heads(self) -> int:
        if self.spec.n_heads is None:
            raise StrataError("Mamba and Falcon-Mamba have no heads: ablate their blocks instead")
        return self.spec.n_heads

    def ffn(self, x: Tensor, ctx: Context, past: None = None) -> tuple[Tensor, None]:
        raise NotImplementedError("a block of a state-space model has no ffn, and nothing calls it")
