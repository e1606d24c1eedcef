"""Gemma 2 and 3: norms of 1 + weight in front of each part and behind it, scaled embeddings, soft caps, layers that slide.

Gemma 3 has norms of each head's queries and keys, and another rotation where layers slide.
"""

from __future__ import annotations

from dataclasses import replace

from adapters.families import llama
from adapters.families.table import Config, Decoder, DecoderFamily, Layer, layers_of, modules
from adapters.norms import rms_norm_of_one_more

_LAYER = "model.layers.{i}."
LAYOUT = replace(
    llama.LAYOUT,
    block={
        **llama.LAYOUT.block,
        **modules(
            {
                "mixer_post_norm": _LAYER + "post_attention_layernorm",
                "ffn_norm": _LAYER + "pre_feedforward_layernorm",
                "ffn_post_norm": _LAYER + "post_feedforward_layernorm",
            }
        ),
    },
)


def _layers(cfg: Config) -> list[Layer]:
    return [layer._replace(scale=cfg.query_pre_attn_scalar**-0.5) for layer in layers_of(cfg)]


GEMMA2 = Decoder(
    layout=LAYOUT,
    names={"hidden_act": "hidden_activation"},
    reads=("query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping"),
    norm=rms_norm_of_one_more,
    norms=("mixer_norm", "mixer_post_norm", "ffn_norm", "ffn_post_norm"),
    biased=lambda cfg: "qkvo" if cfg.attention_bias else "",
    layers=_layers,
    cap=lambda cfg: cfg.attn_logit_softcapping,
    embed_scale=lambda cfg: cfg.hidden_size**0.5,
    logit_cap=lambda cfg: cfg.final_logit_softcapping,
)
GEMMA3 = replace(
    GEMMA2,
    reads=("query_pre_attn_scalar", "final_logit_softcapping"),  # a cap of scores is refused: transformers passes over it
    vectors=lambda cfg: dict.fromkeys(("q_norm", "k_norm"), cfg.head_dim),
    cap=lambda cfg: None,
)
FAMILY = DecoderFamily("gemma", {"gemma2": GEMMA2, "gemma3_text": GEMMA3})
build, layout = FAMILY.build, FAMILY.layout
