"""Hugging Face decoders with the Llama block: RMSNorm, rotary grouped-query attention, gated MLP.

Llama 1/2/3, TinyLlama, SmolLM2, Mistral, Qwen2 and Qwen3, up to the window of sliding layers. The block is our own
few lines on weights by role; Hugging Face's modules are the oracle in the tests, not the engine. What transformers
knows better is called: configuration classes, activations and rotary frequencies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from adapters.attention import AttentionContext, KeyValuePast, attend
from adapters.base import Block, BlockModel, Context, MixerOutput, right_padded
from adapters.checkpoints.layout import Layout, Slot, Store
from adapters.errors import StrataError
from adapters.families.decoder_config import configuration, window
from adapters.roles import n_numbers, shapes_by_role, spec_of
from adapters.specs import BlockSpec, ModelSpec

_LAYER = "model.layers.{i}."
LAYOUT = Layout(
    model={
        "embed": Slot("model.embed_tokens.weight"),
        "norm": Slot("model.norm.weight"),
        "unembed": Slot("lm_head.weight"),
    },
    block={
        "mixer_norm": Slot(_LAYER + "input_layernorm.weight"),
        "ffn_norm": Slot(_LAYER + "post_attention_layernorm.weight"),
        "q_norm": Slot(_LAYER + "self_attn.q_norm.weight"),
        "k_norm": Slot(_LAYER + "self_attn.k_norm.weight"),
        **{
            role + suffix: Slot(f"{_LAYER}{module}.{role}_proj.{tensor}")
            for module, roles in (("self_attn", "qkvo"), ("mlp", ("gate", "up", "down")))
            for role in roles
            for suffix, tensor in (("", "weight"), ("_bias", "bias"))
        },
    },
    ignored=("rotary_emb.inv_freq",),
)


def layout(store: Store) -> Layout:
    """That of every checkpoint of the family."""
    return LAYOUT


@dataclass(frozen=True, slots=True, kw_only=True)
class RotaryContext(AttentionContext):
    cos: Tensor  # (1 or D, T, head_dim)
    sin: Tensor

    def attend(self, q: Tensor, k: Tensor, v: Tensor, past: KeyValuePast | None) -> tuple[Tensor, KeyValuePast]:
        return attend(rotate(q, self), rotate(k, self), v, self, past)


@dataclass(frozen=True, slots=True)
class LlamaBlock:
    spec: BlockSpec
    weights: dict[str, Tensor]  # by role, see _block_shapes
    eps: float
    act: Callable[[Tensor], Tensor]

    def with_weights(self, weights: dict[str, Tensor]) -> LlamaBlock:
        return replace(self, weights=weights)

    def mix(self, x: Tensor, ctx: AttentionContext, past: KeyValuePast | None = None) -> MixerOutput:
        w, h = self.weights, rms_norm(x, self.weights["mixer_norm"], self.eps)
        q, k, v = (self._linear(h, role).unflatten(-1, (-1, self.spec.head_dim)) for role in "qkv")  # (rows, T, heads, head_dim)
        if "q_norm" in w:
            q, k = rms_norm(q, w["q_norm"], self.eps), rms_norm(k, w["k_norm"], self.eps)
        out, past = ctx.attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), past)
        z = out.transpose(1, 2)  # (rows, T, n_heads, head_dim)
        delta = self.project(z)
        return MixerOutput(delta + w["o_bias"] if "o_bias" in w else delta, z, past)

    def project(self, z: Tensor, heads: Sequence[int] | None = None) -> Tensor:
        o = self.weights["o"].unflatten(1, (self.spec.n_heads, -1))  # (d, n_heads, head_dim)
        return F.linear(z.flatten(-2), (o if heads is None else o[:, list(heads)]).flatten(1))

    def ffn(self, x: Tensor, ctx: Context, past: None = None) -> tuple[Tensor, None]:
        h = rms_norm(x, self.weights["ffn_norm"], self.eps)
        return self._linear(self.act(self._linear(h, "gate")) * self._linear(h, "up"), "down"), None

    def _linear(self, x: Tensor, role: str) -> Tensor:
        return F.linear(x, self.weights[role], self.weights.get(f"{role}_bias"))


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root mean square norm over the last axis, in fp32 or better."""
    h = x.to(torch.promote_types(x.dtype, torch.float32))
    return weight * (h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)


def rotate(q: Tensor, ctx: RotaryContext) -> Tensor:
    """Rotary embedding of q (V*D, heads, T, head_dim), halves rotated as in Hugging Face's layout."""
    per_document = q.unflatten(0, (-1, ctx.cos.shape[0]))  # (V, D, ...) or (V*D, 1, ...)
    a, b = per_document.chunk(2, -1)
    return (per_document * ctx.cos[:, None] + torch.cat((-b, a), -1) * ctx.sin[:, None]).flatten(0, 1)


class LlamaModel(BlockModel):
    def __init__(self, spec: ModelSpec, config: PreTrainedConfig, weights: dict[str, Tensor], blocks: Sequence[Block]) -> None:
        self.spec, self.config, self.weights, self.blocks, self.tokenizer = spec, config, weights, list(blocks), None
        try:
            self._rotary = LlamaRotaryEmbedding(config).to(self.device)
        except Exception as error:  # transformers computes with what it did not check
            raise StrataError(
                f"config.json of {spec.name} has rope_parameters that are not complete ({error!r}): use the one that came with the weights"
            ) from error

    def begin(self, ids: Tensor, *, lengths: Tensor | None = None, start: Tensor | None = None) -> tuple[Tensor, AttentionContext]:
        limit, last = window(self.config), ids.shape[1] + (0 if start is None else int(start.max()))
        if limit and last > limit:
            raise StrataError(f"{self.spec.name} is read at {last} tokens, and its attention slides after {limit}: give it shorter texts")
        x = F.embedding(ids, self.weights["embed"])
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        cos, sin = self._rotary(x, positions if start is None else positions + start[:, None])
        return x, RotaryContext(documents=ids.shape[0], lengths=right_padded(ids, lengths), cos=cos, sin=sin)

    def norm(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weights["norm"], self.config.rms_norm_eps)


def build(config: dict, store: Store, name: str) -> LlamaModel:
    """A model from the contents of config.json and its checkpoint. Raises StrataError by name of what differs."""
    cfg = configuration(config, name, len(store.shapes))
    return assemble(LlamaModel, cfg, LAYOUT, store, ("llama", cfg.model_type, name))


def assemble(make: type[LlamaModel], cfg: PreTrainedConfig, layout: Layout, store: Store, names: tuple[str, str, str]) -> LlamaModel:
    """A model of class `make` from a checkpoint in `layout`; `names` are its family, its variant and its own."""
    shapes = _model_shapes(cfg)
    head, embed = layout.model["unembed"].key, layout.model["embed"].key
    if head in store.shapes:
        shapes["unembed"] = shapes["embed"]
    elif "unembed" in shapes and embed in store.shapes:
        tied = f"set tie_word_embeddings to true in config.json if {embed} is its head too, else download it again"
        raise StrataError(f"{store.path} lacks the weight {head}, the head: {tied}")
    block = _block_shapes(cfg)
    weights, blocks = layout.read(store, shapes, [block] * cfg.num_hidden_layers)
    # Some writers leave a copy of tied embeddings behind. A head that differs is used, as Hugging Face does.
    if cfg.tie_word_embeddings and "unembed" in weights and torch.equal(weights["unembed"], weights["embed"]):
        del weights["unembed"]
    act = ACT2FN[cfg.hidden_act]
    block_spec = spec_of(block, cfg.num_attention_heads)
    built = [LlamaBlock(block_spec, w, cfg.rms_norm_eps, act) for w in blocks]
    spec = ModelSpec(
        family=names[0],
        variant=names[1],
        name=names[2],
        d_model=cfg.hidden_size,
        vocab_size=cfg.vocab_size,
        max_len=min(cfg.max_position_embeddings, window(cfg) or cfg.max_position_embeddings),
        blocks=tuple(b.spec for b in built),
        n_params=n_numbers(shapes_by_role(weights)) + sum(b.spec.n_params for b in built),
        source_hash=store.hash,
    )
    return make(spec, cfg, weights, built)


def _head_dim(cfg: PreTrainedConfig) -> int:
    return getattr(cfg, "head_dim", None) or cfg.hidden_size // cfg.num_attention_heads


def _model_shapes(cfg: PreTrainedConfig) -> dict[str, tuple[int, ...]]:
    embed = (cfg.vocab_size, cfg.hidden_size)
    return {"embed": embed, "norm": (cfg.hidden_size,)} | ({} if cfg.tie_word_embeddings else {"unembed": embed})


def _block_shapes(cfg: PreTrainedConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every role that the configuration asks for; which projections have biases differs by model_type."""
    d, f, hd = cfg.hidden_size, cfg.intermediate_size, _head_dim(cfg)
    q, kv = cfg.num_attention_heads * hd, cfg.num_key_value_heads * hd
    matrices: dict[str, tuple[int, ...]] = {
        "q": (q, d),
        "k": (kv, d),
        "v": (kv, d),
        "o": (d, q),
        "gate": (f, d),
        "up": (f, d),
        "down": (d, f),
    }
    biased = {"qwen2": "qkv", "mistral": ""}.get(cfg.model_type, "qkvo" if getattr(cfg, "attention_bias", False) else "")
    biases = [*biased, *(("gate", "up", "down") if getattr(cfg, "mlp_bias", False) else ())]
    norms: dict[str, tuple[int, ...]] = {"mixer_norm": (d,), "ffn_norm": (d,)}
    if cfg.model_type == "qwen3":
        norms |= {"q_norm": (hd,), "k_norm": (hd,)}
    return matrices | {f"{role}_bias": matrices[role][:1] for role in biases} | norms
