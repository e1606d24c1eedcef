"""OLMo 1: LayerNorm without weights, and queries, keys and values that are clipped."""

from __future__ import annotations

from dataclasses import replace

from adapters.families import llama
from adapters.families.table import DecoderFamily
from adapters.norms import layer_norm

NORMS = ("mixer_norm", "ffn_norm")
LAYOUT = replace(
    llama.LAYOUT,
    model={role: slot for role, slot in llama.LAYOUT.model.items() if role != "norm"},
    block={role: slot for role, slot in llama.LAYOUT.block.items() if role not in NORMS},
)
OLMO = replace(
    llama.LLAMA,
    layout=LAYOUT,
    names={"rms_norm_eps": "layer_norm_eps"},
    reads=("clip_qkv",),
    fill=lambda config: {"layer_norm_eps": 1e-5},  # in transformers' code alone
    norm=layer_norm,
    bare=True,
    biased=lambda cfg: "qkvo" if cfg.attention_bias else "",
    clip=lambda cfg: cfg.clip_qkv,
)
FAMILY = DecoderFamily("olmo", {"olmo": OLMO})
build, layout = FAMILY.build, FAMILY.layout
