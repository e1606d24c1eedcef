"""Phi-3, 3.5 and 4: the Llama block with fused weights, of which a part of each head may rotate, with a window or none."""

from __future__ import annotations

from dataclasses import replace

from adapters.families import llama
from adapters.families.table import Decoder, DecoderFamily, modules

_LAYER = "model.layers.{i}."
LAYOUT = replace(
    llama.LAYOUT,
    block={
        **llama.LAYOUT.block,
        **modules({"q k v": _LAYER + "self_attn.qkv_proj", "gate up": _LAYER + "mlp.gate_up_proj"}),
    },
)
PHI3 = Decoder(layout=LAYOUT, reads=("partial_rotary_factor",), layers=llama.window_of_all)
FAMILY = DecoderFamily("phi3", {"phi3": PHI3})
build, layout = FAMILY.build, FAMILY.layout
