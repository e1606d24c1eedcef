"""Qwen with experts: those of 2 and 1.5 have an MLP beside them that all tokens go through; some blocks may have an MLP alone."""

from __future__ import annotations

from dataclasses import replace

from adapters.checkpoints.layout import Slot
from adapters.errors import StrataError
from adapters.families import llama
from adapters.families.moe import expert_slots, fused_expert_slots, sparse
from adapters.families.table import Config, Decoder, DecoderFamily, Experts, Layer, layers_of

_FFN = "model.layers.{i}.mlp."
LAYOUT = replace(
    llama.LAYOUT,
    block={
        **llama.LAYOUT.block,
        "router": Slot(_FFN + "gate.weight"),
        **expert_slots(_FFN + "experts."),
        **{f"shared_{role}": Slot(f"{_FFN}shared_expert.{role}_proj.weight") for role in ("gate", "up", "down")},
        "shared_scale": Slot(_FFN + "shared_expert_gate.weight"),
    },
    otherwise=fused_expert_slots(_FFN + "experts."),
)


def _sparse(cfg: Config, layers: list[Layer], shared: int = 0) -> list[Layer]:
    """Experts in every `decoder_sparse_step`th block that is not among `mlp_only_layers`, if there are any.

    Raises StrataError on numbers that make no sense.
    """
    if (step := cfg.decoder_sparse_step) < 1:
        raise StrataError(f"config.json is not valid: decoder_sparse_step is {step}, expected a whole number above zero")
    dense = [i for i in range(len(layers)) if i in cfg.mlp_only_layers or (i + 1) % step or not cfg.num_experts]
    return sparse(layers, Experts(cfg.num_experts, cfg.num_experts_per_tok, cfg.moe_intermediate_size, shared), dense)


def _head_dim(cfg: Config) -> int:
    return getattr(cfg, "head_dim", None) or cfg.hidden_size // cfg.num_attention_heads


QWEN2_MOE = Decoder(
    layout=LAYOUT,
    reads=("num_experts",),
    layers=lambda cfg: _sparse(cfg, layers_of(cfg), cfg.shared_expert_intermediate_size),
    biased=lambda cfg: "qkv" if cfg.qkv_bias else "",
    renormalised=lambda cfg: cfg.norm_topk_prob,
)
QWEN3_MOE = Decoder(
    layout=LAYOUT,
    reads=("num_experts", "num_local_experts"),
    layers=lambda cfg: _sparse(cfg, llama.window_of_all(cfg)),
    biased=lambda cfg: "qkvo" if cfg.attention_bias else "",
    vectors=lambda cfg: dict.fromkeys(("q_norm", "k_norm"), _head_dim(cfg)),
    renormalised=lambda cfg: cfg.norm_topk_prob,
)
FAMILY = DecoderFamily("qwen_moe", {"qwen2_moe": QWEN2_MOE, "qwen3_moe": QWEN3_MOE})
build, layout = FAMILY.build, FAMILY.layout
