"""GLM-4, of 2024 and, with a norm behind each part, of 2025: half of the channels of a head rotate, in pairs of neighbours."""

from __future__ import annotations

from dataclasses import replace

from adapters.families import llama
from adapters.families.table import Decoder, DecoderFamily, modules

_LAYER = "model.layers.{i}."
LAYOUT = replace(
    llama.LAYOUT,
    block={
        **llama.LAYOUT.block,
        **modules(
            {
                "gate up": _LAYER + "mlp.gate_up_proj",
                "mixer_post_norm": _LAYER + "post_self_attn_layernorm",
                "ffn_post_norm": _LAYER + "post_mlp_layernorm",
            }
        ),
    },
)
GLM = Decoder(
    layout=LAYOUT,
    reads=("partial_rotary_factor",),
    biased=lambda cfg: "qkv" if cfg.attention_bias else "",
    neighbours=True,
)
GLM4 = replace(GLM, norms=("mixer_norm", "mixer_post_norm", "ffn_norm", "ffn_post_norm"))
FAMILY = DecoderFamily("glm", {"glm": GLM, "glm4": GLM4})
build, layout = FAMILY.build, FAMILY.layout
