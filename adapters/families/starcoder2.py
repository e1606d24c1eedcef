"""StarCoder2: grouped attention with rotation and a window, LayerNorm, an MLP without a gate, and biases or none."""

from __future__ import annotations

from dataclasses import replace

from adapters.families import llama
from adapters.families.table import Decoder, DecoderFamily, modules
from adapters.norms import layer_norm

_LAYER = "model.layers.{i}."
LAYOUT = replace(
    llama.LAYOUT,
    model=modules({"embed": "model.embed_tokens", "norm": "model.norm", "unembed": "lm_head"}),
    block={**llama.LAYOUT.block, **modules({"up": _LAYER + "mlp.c_fc", "down": _LAYER + "mlp.c_proj"})},
)
STARCODER2 = Decoder(
    layout=LAYOUT,
    names={"rms_norm_eps": "norm_epsilon"},
    norm=layer_norm,
    norm_bias=True,
    gated=False,
    biased=lambda cfg: [*"qkvo", "up", "down"] if cfg.use_bias else (),
    layers=llama.window_of_all,
)
FAMILY = DecoderFamily("starcoder2", {"starcoder2": STARCODER2})
build, layout = FAMILY.build, FAMILY.layout
