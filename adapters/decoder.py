"""One block and one model for all attention decoders: what families differ in is data (`adapters/families/table.py`).

The block is our own few lines on weights by role; Hugging Face's modules are the oracle in the tests, not the engine. What transformers
knows better is called: configuration classes, activations and rotary frequencies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedConfig

from adapters.attention import AnyPast, Attention, attend
from adapters.base import BlockModel
from adapters.block import Block, Context, MixerOutput, right_padded
from adapters.checkpoints.layout import Layout
from adapters.errors import StrataError
from adapters.experts import Routing, mixed, route, weight_of
from adapters.norms import Norm
from adapters.products import linear
from adapters.roles import ROLES, shapes_by_role, spec_of, with_heads
from adapters.rotary import Rotation, kinds_of, rotary, rotate, rotation
from adapters.specs import BlockSpec, ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderContext(Context):
    rotations: Mapping[str, Rotation]  # by kind; of the documents' positions

    def rows(self, index: Tensor) -> DecoderContext:
        rotations = {kind: Rotation(*(t[index] for t in rotation)) for kind, rotation in self.rotations.items()}
        return replace(Context.rows(self, index), rotations=rotations)


@dataclass(frozen=True, slots=True)
class DecoderBlock:
    """Attention and an MLP, or experts. Which roles have weights decides much: a gate or none, biases, norms in front or behind.

    An ffn without a norm of its own reads the mixer's; a block without any norm in front reads the stream as it is.
    """

    spec: BlockSpec
    weights: dict[str, Tensor]  # by role
    norm: Norm
    eps: float
    act: Callable[[Tensor], Tensor]
    attention: Attention
    rotation: str | None  # its kind; None: queries and keys do not rotate
    neighbours: bool = False  # as in `rotate`
    bare: tuple[str, ...] = ()  # roles of norms without weights
    clip: float | None = None  # queries, keys and values go no further from zero
    residual: float | None = None  # by which is multiplied what a part gives
    renormalised: bool = False  # weights of a token's experts sum to one

    def with_weights(self, weights: dict[str, Tensor]) -> DecoderBlock:
        return replace(self, weights=weights)

    @property
    def joint_heads(self) -> bool:
        """One norm is over the queries, or the keys, of all heads: none of them works by itself."""
        norms = [self.weights[role] for role in ("q_norm", "k_norm") if role in self.weights]
        return any(t.numel() > (self.spec.head_dim or 0) for t in norms)

    def mix(self, x: Tensor, ctx: DecoderContext, past: AnyPast | None = None) -> MixerOutput:
        h = self._norm(x, "mixer_norm")
        q, k = (self._heads(self._clipped(self._by_heads_normed(self._linear(h, role), role))) for role in "qk")
        v = self._heads(self._clipped(self._linear(h, "v")))  # (rows, heads, T, head_dim)
        if self.rotation is not None:
            q, k = (rotate(t, ctx.rotations[self.rotation], self.neighbours) for t in (q, k))
        out, after = attend(q, k, v, ctx, past, self.attention)
        z = out.transpose(1, 2)  # (rows, T, n_heads, head_dim)
        delta = self.project(z)
        return MixerOutput(delta + self._scaled(self.weights["o_bias"]) if "o_bias" in self.weights else delta, z, after)

    def project(self, z: Tensor, heads: Sequence[int] | None = None) -> Tensor:
        o = self.weights["o"].unflatten(1, (self.spec.n_heads, -1))  # (d, n_heads, head_dim)
        return self._scaled(linear(z.flatten(-2), (o if heads is None else o[:, list(heads)]).flatten(1)))

    def close(self, delta: Tensor) -> Tensor:
        return self._norm(delta, "mixer_post_norm")

    def ffn(self, x: Tensor, ctx: Context, past: None = None, without: Tensor | None = None) -> tuple[Tensor, None]:
        h = self._ffn_normed(x)
        delta = self._experts(h, without) if "router" in self.weights else self._mlp(h)
        return self._norm(self._scaled(delta), "ffn_post_norm"), None

    def route(self, x: Tensor, without: Tensor | None = None) -> Routing:
        return self._route(self._ffn_normed(x), without)

    def beside(self, x: Tensor) -> Tensor | None:
        assert "ffn_post_norm" not in self.weights, "what stands under one norm does not come apart"
        return self._scaled(self._shared(self._ffn_normed(x))) if "shared_up" in self.weights else None

    def share(self, x: Tensor, sent: Routing, expert: int) -> Tensor:
        assert "ffn_post_norm" not in self.weights, "what stands under one norm does not come apart"
        h, weight = self._ffn_normed(x), weight_of(sent, expert).to(x.dtype)
        there = weight.nonzero(as_tuple=True)  # tokens that are sent to it
        alone = Routing(torch.full_like(weight[there], expert, dtype=torch.long)[:, None], weight[there][:, None], sent.shares[there])
        return self._scaled(torch.zeros_like(h).index_put(there, mixed(h[there], alone, self.weights, self.act)))

    def _route(self, h: Tensor, without: Tensor | None) -> Routing:
        return route(self._linear(h, "router"), self.spec.experts_per_token, self.renormalised, without)

    def _experts(self, h: Tensor, without: Tensor | None) -> Tensor:
        to = Routing(*(t.flatten(0, -2) for t in self._route(h, without)))  # of each token
        delta = mixed(h.flatten(0, -2), to, self.weights, self.act).view_as(h)
        return delta + self._shared(h) if "shared_up" in self.weights else delta

    def _shared(self, h: Tensor) -> Tensor:
        return torch.sigmoid(self._linear(h, "shared_scale")) * self._mlp(h, "shared_")

    def _mlp(self, h: Tensor, which: str = "") -> Tensor:
        up = self._linear(h, which + "up")
        inner = self.act(self._linear(h, which + "gate")) * up if which + "gate" in self.weights else self.act(up)
        return self._linear(inner, which + "down")

    def _ffn_normed(self, x: Tensor) -> Tensor:
        return self._norm(x, "ffn_norm" if "ffn_norm" in (*self.weights, *self.bare) else "mixer_norm")

    def keep_heads(self, kept: Sequence[int]) -> DecoderBlock:
        n = self.spec.n_heads or 0
        if self.joint_heads:
            raise StrataError(
                "heads cannot be deleted where one norm is over the queries or keys of all of them: ablate them, or a whole mixer"
            )
        before = self.attention.reads or [head // (n // (self.spec.n_kv_heads or n)) for head in range(n)]
        groups = sorted({before[head] for head in kept})
        reads = tuple(groups.index(before[head]) for head in kept)
        weights = with_heads(self.weights, kept, n, groups, max(before) + 1)
        shapes, per_token = shapes_by_role(weights), self.spec.experts_per_token
        spec = spec_of(shapes, len(kept), parallel=self.spec.parallel, experts_per_token=per_token)
        equal = reads == tuple(i // (len(kept) // len(groups)) for i in range(len(kept)))
        slopes = None if self.attention.slopes is None else self.attention.slopes[list(kept)]
        attention = replace(self.attention, reads=None if equal else reads, slopes=slopes)
        return replace(self, spec=spec if equal else replace(spec, n_kv_heads=None), weights=weights, attention=attention)

    def keep_experts(self, kept: Sequence[int]) -> DecoderBlock:
        index, own = torch.tensor(list(kept), device=self.weights["router"].device), self.spec
        few = {role: t[index] if role == "router" or ROLES[role].expert else t for role, t in self.weights.items()}
        per_token = min(own.experts_per_token, len(kept))
        spec = spec_of(shapes_by_role(few), own.n_heads, parallel=own.parallel, experts_per_token=per_token)
        return replace(self, spec=replace(spec, n_kv_heads=own.n_kv_heads), weights=few)

    def _scaled(self, delta: Tensor) -> Tensor:
        return delta if self.residual is None else delta * self.residual

    def _clipped(self, x: Tensor) -> Tensor:
        return x if self.clip is None else x.clamp(-self.clip, self.clip)

    def _linear(self, x: Tensor, role: str) -> Tensor:
        return linear(x, self.weights[role], self.weights.get(f"{role}_bias"))

    def _norm(self, x: Tensor, role: str) -> Tensor:
        weight = self.weights.get(role)
        return x if weight is None and role not in self.bare else self.norm(x, weight, self.eps, self.weights.get(f"{role}_bias"))

    def _by_heads_normed(self, x: Tensor, role: str) -> Tensor:
        """x (rows, T, heads * head_dim) under one norm of all heads (as its weight is long) or for each, under own ones, or none."""
        norm = role + ("_norms" if role + "_norms" in self.weights else "_norm")
        return self._norm(x.unflatten(-1, (-1, self.weights[norm].shape[-1])), norm).flatten(-2) if norm in self.weights else x

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.spec.head_dim)).transpose(1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """What a model does in front of its blocks and behind them."""

    norm: Norm
    eps: float
    embed_scale: float | None = None  # of embeddings
    logit_scale: float | None = None
    logit_cap: float | None = None  # a logit l becomes cap * tanh(l / cap)
    first_position: int = 0  # row of the first token in the table of positions, where there is one
    limit: int | None = None  # no text may be longer


class DecoderModel(BlockModel):
    def __init__(
        self,
        spec: ModelSpec,
        config: PreTrainedConfig,
        ends: Ends,
        layout: Layout,
        weights: dict[str, Tensor],
        blocks: Sequence[DecoderBlock],
    ) -> None:
        self.spec, self.config, self.ends, self.layout = spec, config, ends, layout
        self.weights, self.tokenizer = weights, None
        self.blocks: Sequence[Block] = list(blocks)
        used = {block.rotation for block in blocks}
        try:
            self._rotary = {kind: rotary(config, own).to(self.device) for kind, own in kinds_of(config).items() if kind in used}
        except Exception as error:  # transformers computes with what it did not check
            raise StrataError(
                f"config.json of {spec.name} has rope_parameters that are not complete ({error!r}): use the one that came with the weights"
            ) from error

    def begin(self, ids: Tensor, *, lengths: Tensor | None = None, start: Tensor | None = None) -> tuple[Tensor, DecoderContext]:
        lengths = right_padded(ids, lengths)
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        positions = positions if start is None else positions + start[:, None]
        ends = (0 if start is None else start) + (torch.tensor(ids.shape[1]) if lengths is None else lengths)
        if self.ends.limit is not None:
            if (last := int(ends.max())) > self.ends.limit:
                raise StrataError(f"{self.spec.name} is read at {last} tokens, and goes up to {self.ends.limit}: give it shorter texts")
            positions = positions.clamp(max=self.ends.limit - 1)  # of padding
        x = F.embedding(ids, self.weights["embed"])
        if self.ends.embed_scale is not None:
            x = x * torch.tensor(self.ends.embed_scale, dtype=x.dtype, device=x.device)  # rounded as the embeddings are
        if "positions" in self.weights:
            x = x + F.embedding(positions + self.ends.first_position, self.weights["positions"])
        rotations = {kind: rotation(module, x, positions, ends) for kind, module in self._rotary.items()}
        return x, DecoderContext(documents=ids.shape[0], lengths=lengths, rotations=rotations)

    def norm(self, x: Tensor) -> Tensor:
        return self.ends.norm(x, self.weights.get("norm"), self.ends.eps, self.weights.get("norm_bias"))

    def unembed(self, h: Tensor, tokens: slice | Tensor = slice(None)) -> Tensor:
        logits, ends = super().unembed(h, tokens), self.ends
        if "unembed_bias" in self.weights:
            logits = logits + self.weights["unembed_bias"][tokens]
        if ends.logit_scale is not None:
            logits = logits * ends.logit_scale
        return logits if ends.logit_cap is None else ends.logit_cap * torch.tanh(logits / ends.logit_cap)
