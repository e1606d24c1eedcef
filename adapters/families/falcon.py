"""Falcon: queries, keys and values in one module, group by group; parallel or not, one norm or two, rotation or linear biases."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from adapters.checkpoints.layout import Layout
from adapters.families.baichuan import alibi_slopes
from adapters.families.table import Config, Decoder, DecoderFamily, Layer, layers_of, modules
from adapters.norms import layer_norm

_BLOCK = "transformer.h.{i}."
LAYOUT = Layout(
    model=modules({"embed": "transformer.word_embeddings", "norm": "transformer.ln_f", "unembed": "lm_head"}),
    block=modules(
        {
            "mixer_norm": _BLOCK + "input_layernorm",
            "ffn_norm": _BLOCK + "post_attention_layernorm",
            "q k v by group": _BLOCK + "self_attention.query_key_value",
            "o": _BLOCK + "self_attention.dense",
            "up": _BLOCK + "mlp.dense_h_to_4h",
            "down": _BLOCK + "mlp.dense_4h_to_h",
        }
    ),
    ignored=("rotary_emb.inv_freq",),
)
TWO_NORMS = replace(LAYOUT, block={**LAYOUT.block, **modules({"mixer_norm": _BLOCK + "ln_attn", "ffn_norm": _BLOCK + "ln_mlp"})})


def _fill(config: dict) -> dict:
    """The groups: as many as config.json says in the new architecture alone, else one, or as many as heads."""
    if config.get("new_decoder_architecture"):
        return {}
    return {"num_kv_heads": 1 if config.get("multi_query", True) else config.get("num_attention_heads", 71)}


def _layers(cfg: Config) -> list[Layer]:
    return [layer._replace(rotation=None) if cfg.alibi else layer for layer in layers_of(cfg)]


def _slopes(cfg: Config) -> Tensor | None:
    return torch.tensor(alibi_slopes(cfg.num_attention_heads)) if cfg.alibi else None


PARALLEL = Decoder(
    layout=LAYOUT,
    names={
        "intermediate_size": "ffn_hidden_size",
        "num_key_value_heads": "num_kv_heads",
        "rms_norm_eps": "layer_norm_epsilon",
        "hidden_act": "activation",
    },
    reads=("alibi", "parallel_attn"),
    fill=_fill,
    norm=layer_norm,
    norms=("mixer_norm",),
    norm_bias=True,
    gated=False,
    biased=lambda cfg: [*"qkvo", "up", "down"] if cfg.bias else (),
    parallel=lambda cfg: True,
    layers=_layers,
    slopes=_slopes,
    coarse_slopes=True,
)
PARALLEL_TWO_NORMS = replace(PARALLEL, layout=TWO_NORMS, norms=("mixer_norm", "ffn_norm"))
IN_SEQUENCE = replace(PARALLEL, norms=("mixer_norm", "ffn_norm"), parallel=lambda cfg: False)


def _table(config: dict) -> Decoder:
    if config.get("new_decoder_architecture"):
        return PARALLEL if config.get("num_ln_in_parallel_attn") == 1 else PARALLEL_TWO_NORMS
    return PARALLEL if config.get("parallel_attn", True) else IN_SEQUENCE


FAMILY = DecoderFamily("falcon", {"falcon": _table})
build, layout = FAMILY.build, FAMILY.layout
