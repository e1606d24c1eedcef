"""OLMoE: experts in every block; queries and keys of all heads under one norm each, clipped behind it."""

from __future__ import annotations

from dataclasses import replace

from adapters.checkpoints.layout import Slot
from adapters.families import llama
from adapters.families.moe import expert_slots, fused_expert_slots, sparse
from adapters.families.olmo2 import norms_of_all_heads
from adapters.families.table import Config, Decoder, DecoderFamily, Experts, Layer, layers_of

_FFN = "model.layers.{i}.mlp."
LAYOUT = replace(
    llama.LAYOUT,
    block={**llama.LAYOUT.block, "router": Slot(_FFN + "gate.weight"), **expert_slots(_FFN + "experts.")},
    otherwise=fused_expert_slots(_FFN + "experts."),
)


def _layers(cfg: Config) -> list[Layer]:
    return sparse(layers_of(cfg), Experts(cfg.num_experts, cfg.num_experts_per_tok, cfg.intermediate_size))


OLMOE = Decoder(
    layout=LAYOUT,
    reads=("num_experts", "num_local_experts", "clip_qkv"),
    layers=_layers,
    biased=lambda cfg: "qkvo" if cfg.attention_bias else "",
    vectors=norms_of_all_heads,
    clip=lambda cfg: cfg.clip_qkv,
    renormalised=lambda cfg: cfg.norm_topk_prob,
)
FAMILY = DecoderFamily("olmoe", {"olmoe": OLMOE})
build, layout = FAMILY.build, FAMILY.layout
