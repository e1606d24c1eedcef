"""Mixtral: Mistral with experts in place of the MLP; the weights of a token's two sum to one."""

from __future__ import annotations

from dataclasses import replace

from adapters.checkpoints.layout import Slot
from adapters.families import llama
from adapters.families.moe import expert_slots, fused_expert_slots, sparse
from adapters.families.table import Config, Decoder, DecoderFamily, Experts, Layer

_LAYER = "model.layers.{i}."
_FFN = _LAYER + "block_sparse_moe."
LAYOUT = replace(
    llama.LAYOUT,
    block={
        **{role: slot for role, slot in llama.LAYOUT.block.items() if role.removesuffix("_bias") not in ("gate", "up", "down")},
        "router": Slot(_FFN + "gate.weight"),
        **expert_slots(_FFN + "experts.", gate="w1", up="w3", down="w2"),
    },
    otherwise={"router": Slot(_LAYER + "mlp.gate.weight"), **fused_expert_slots(_LAYER + "mlp.experts.")},
)


def _layers(cfg: Config) -> list[Layer]:
    experts = Experts(cfg.num_local_experts, cfg.num_experts_per_tok, cfg.intermediate_size)
    return sparse(llama.window_of_all(cfg), experts)


MIXTRAL = Decoder(layout=LAYOUT, reads=("num_local_experts", "num_experts"), layers=_layers, renormalised=lambda cfg: True)
FAMILY = DecoderFamily("mixtral", {"mixtral": MIXTRAL})
build, layout = FAMILY.build, FAMILY.layout
