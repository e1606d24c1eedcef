"""State-space models as a list of blocks, from checkpoints with Hugging Face's keys."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from adapters.base import BlockModel
from adapters.block import Context, right_padded
from adapters.checkpoints.layout import Layout, Slot, Store
from adapters.families.mamba.blocks import MambaBlock
from adapters.families.mamba.config import block_shapes, configuration, inner_eps, limits, model_shapes
from adapters.families.mamba.mixers import MIXERS, How
from adapters.norms import rms_norm
from adapters.recurrent import wide
from adapters.roles import n_numbers, shapes_by_role, spec_of
from adapters.specs import ModelSpec

MIXER = "backbone.layers.{i}.mixer."


def _linear(key: str, *roles: str) -> dict[str, Slot]:
    """A module that gives the rows of several roles, and its bias."""
    fused = {end: tuple(role + end for role in roles) if len(roles) > 1 else () for end in ("", "_bias")}
    tensors = {"": "weight", "_bias": "bias"}
    return {role + end: Slot(f"{MIXER}{key}.{tensors[end]}", fused[end]) for role in roles for end in fused}


def _layout(**linear: tuple[str, ...]) -> Layout:
    slots = {slot: value for key, roles in linear.items() for slot, value in _linear(key, *roles).items()}
    return Layout(
        model={
            "embed": Slot("backbone.embeddings.weight"),
            "norm": Slot("backbone.norm_f.weight"),
            "unembed": Slot("lm_head.weight"),
        },
        block={
            "mixer_norm": Slot("backbone.layers.{i}.norm.weight"),
            "conv": Slot(MIXER + "conv1d.weight"),
            "conv_bias": Slot(MIXER + "conv1d.bias"),
            "head_norm": Slot(MIXER + "norm.weight"),
            "decay": Slot(MIXER + "A_log", exact=True),
            "skip": Slot(MIXER + "D", exact=True),
            "step_bias": Slot(MIXER + "dt_bias", exact=True),
            **slots,
        },
        prefix="backbone.",
    )


_MAMBA = _layout(in_proj=("x", "g"), x_proj=("step_in", "b", "c"), dt_proj=("step",), out_proj=("o",))
LAYOUTS = {
    "mamba": _MAMBA,
    "falcon_mamba": _MAMBA,
    "mamba2": _layout(in_proj=("g", "x", "b", "c", "step_in"), out_proj=("o",)),
}


class MambaModel(BlockModel):
    """Its stream is in fp32 where config.json says so (residual_in_fp32), whatever its weights are in."""

    def __init__(
        self, spec: ModelSpec, layout: Layout, weights: dict[str, Tensor], blocks: Sequence[MambaBlock], eps: float, wide_stream: bool
    ) -> None:
        self.spec, self.layout, self.weights, self.blocks, self.tokenizer = spec, layout, weights, list(blocks), None
        self.eps, self.wide_stream = eps, wide_stream

    def begin(self, ids: Tensor, *, lengths: Tensor | None = None, start: Tensor | None = None) -> tuple[Tensor, Context]:
        """`start` does not matter: nothing here knows positions, the past does it all."""
        x = F.embedding(ids, self.weights["embed"])
        return wide(x) if self.wide_stream else x, Context(documents=len(ids), lengths=right_padded(ids, lengths))

    def norm(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weights["norm"], self.eps).to(self.dtype)

    @property
    def stream_dtype(self) -> torch.dtype:
        return torch.promote_types(self.dtype, torch.float32) if self.wide_stream else self.dtype


def layout(config: dict, store: Store) -> Layout:
    """That of a checkpoint."""
    cfg, _ = configuration(config, store.path.name, len(store.shapes))
    return LAYOUTS[cfg.model_type].fitting(store, 1)


def build(config: dict, store: Store, name: str) -> MambaModel:
    """A model from the contents of config.json and its checkpoint. Raises StrataError by name of what is not supported."""
    cfg, n = configuration(config, name, len(store.shapes))
    found, shapes, block = LAYOUTS[cfg.model_type].fitting(store, 1), model_shapes(cfg, n), block_shapes(cfg, n)
    head = found.model["unembed"].key
    if head in store.shapes:
        shapes["unembed"] = shapes["embed"]
    weights, blocks = found.read(store, shapes, [block] * n.blocks)
    if cfg.tie_word_embeddings and "unembed" in weights and store.read(head).equal(store.read(found.model["embed"].key)):
        del weights["unembed"]
    spec = spec_of(block, n.n_heads)
    low, high = limits(cfg)
    how = How(n.n_heads, inner_eps(cfg), (low, high))
    model_spec = ModelSpec(
        family="mamba",
        variant=cfg.model_type,
        name=name,
        d_model=n.d,
        vocab_size=n.vocab,
        max_len=n.max_len,
        blocks=(spec,) * n.blocks,
        n_params=n_numbers(shapes_by_role(weights)) + n.blocks * spec.n_params,
        source_hash=store.hash,
    )
    built = [MambaBlock(spec, w, MIXERS[cfg.model_type], how, cfg.layer_norm_epsilon) for w in blocks]
    return MambaModel(model_spec, found, weights, built, cfg.layer_norm_epsilon, cfg.residual_in_fp32)
