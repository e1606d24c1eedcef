"""Granite: Llama with four factors, of embeddings, of what each part gives, of scores and of logits."""

from __future__ import annotations

from dataclasses import replace

from adapters.families import llama
from adapters.families.table import Config, DecoderFamily, Layer


def _layers(cfg: Config) -> list[Layer]:
    return [Layer(scale=cfg.attention_multiplier)] * cfg.num_hidden_layers


GRANITE = replace(
    llama.LLAMA,
    reads=("embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling"),
    layers=_layers,
    residual=lambda cfg: cfg.residual_multiplier,
    embed_scale=lambda cfg: cfg.embedding_multiplier,
    logit_scale=lambda cfg: 1 / cfg.logits_scaling,
)
FAMILY = DecoderFamily("granite", {"granite": GRANITE})
build, layout = FAMILY.build, FAMILY.layout
