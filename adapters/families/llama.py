"""Llama 1/2/3, TinyLlama, SmolLM2/3, Mistral, Qwen 1.5/2/2.5 and Qwen3: RMSNorm, rotary grouped-query attention, gated MLP."""

from __future__ import annotations

from adapters.checkpoints.layout import Layout, Slot
from adapters.families.table import Config, Decoder, DecoderFamily, Layer, layers_of, modules

_LAYER = "model.layers.{i}."
LAYOUT = Layout(
    model={
        "embed": Slot("model.embed_tokens.weight"),
        "norm": Slot("model.norm.weight"),
        "unembed": Slot("lm_head.weight"),
    },
    block=modules(
        {
            "mixer_norm": _LAYER + "input_layernorm",
            "ffn_norm": _LAYER + "post_attention_layernorm",
            **{role: f"{_LAYER}self_attn.{role}_proj" for role in "qkvo"},
            **{role: f"{_LAYER}self_attn.{role}" for role in ("q_norm", "k_norm")},
            **{role: f"{_LAYER}mlp.{role}_proj" for role in ("gate", "up", "down")},
        }
    ),
    ignored=("rotary_emb.inv_freq",),
)


def _biased(cfg: Config) -> list[str]:
    return [*("qkvo" if cfg.attention_bias else ""), *(("gate", "up", "down") if getattr(cfg, "mlp_bias", False) else ())]


def window_of_all(cfg: Config) -> list[Layer]:
    return [Layer(cfg.sliding_window)] * cfg.num_hidden_layers


def _some_rotate(cfg: Config) -> list[Layer]:
    rotates = cfg.no_rope_layers[: cfg.num_hidden_layers]
    return [layer if yes else layer._replace(rotation=None) for layer, yes in zip(layers_of(cfg), rotates, strict=True)]


LLAMA = Decoder(
    layout=LAYOUT,
    biased=_biased,
    limit=lambda cfg: getattr(cfg, "sliding_window", None),  # some readers slide then and others do not: up to it they agree
)
FAMILY = DecoderFamily(
    "llama",
    {
        "llama": LLAMA,
        "smollm3": Decoder(layout=LAYOUT, biased=_biased, layers=_some_rotate, reads=("no_rope_layers",)),
        "mistral": Decoder(layout=LAYOUT, layers=window_of_all),
        "qwen2": Decoder(layout=LAYOUT, biased=lambda cfg: "qkv"),
        "qwen3": Decoder(layout=LAYOUT, biased=_biased, vectors=lambda cfg: dict.fromkeys(("q_norm", "k_norm"), cfg.head_dim)),
    },
)
build, layout = FAMILY.build, FAMILY.layout
