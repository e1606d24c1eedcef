"""Jamba: attention without positions in some blocks and Mamba in the others, experts behind some of them and an MLP behind the others."""

from __future__ import annotations

from adapters.checkpoints.layout import Layout, Slot
from adapters.errors import StrataError
from adapters.families import llama
from adapters.families.decoder_config import RECURRENT
from adapters.families.mamba.config import Sizes
from adapters.families.mamba.hybrid import StateSpace
from adapters.families.mamba.mixers import How
from adapters.families.moe import expert_slots, fused_expert_slots, sparse
from adapters.families.table import Config, Decoder, DecoderFamily, Experts, Layer, modules

_LAYER = "model.layers.{i}."
_MAMBA, _FFN = _LAYER + "mamba.", _LAYER + "feed_forward."
COUNTS = ("mamba_d_state", "mamba_d_conv", "mamba_expand", "mamba_dt_rank", "attn_layer_period", "expert_layer_period")
LAYOUT = Layout(
    model={**llama.LAYOUT.model, "norm": Slot("model.final_layernorm.weight")},
    block={
        **llama.LAYOUT.block,
        **modules(
            {
                "ffn_norm": _LAYER + "pre_ff_layernorm",
                **{role: f"{_FFN}{role}_proj" for role in ("gate", "up", "down")},
                "x g": _MAMBA + "in_proj",
                "step_in b c": _MAMBA + "x_proj",
                "step": _MAMBA + "dt_proj",
                "conv": _MAMBA + "conv1d",
                "out": _MAMBA + "out_proj",
            }
        ),
        **{f"{role}_norm": Slot(f"{_MAMBA}{key}_layernorm.weight") for role, key in (("step_in", "dt"), ("b", "b"), ("c", "c"))},
        "step_bias": Slot(_MAMBA + "dt_proj.bias", exact=True),
        "decay": Slot(_MAMBA + "A_log", exact=True),
        "skip": Slot(_MAMBA + "D", exact=True),
        "router": Slot(_FFN + "router.weight"),
        **expert_slots(_FFN + "experts."),
    },
    otherwise=fused_expert_slots(_FFN + "experts."),
)


def _layers(cfg: Config) -> list[Layer]:
    """As the periods of config.json say. Raises StrataError on numbers that make no sense."""
    for key in COUNTS:
        if type(value := getattr(cfg, key)) is not int or value < 1:
            raise StrataError(f"config.json is not valid: {key} is {value!r}, expected a whole number above zero")
    if cfg.hidden_act != "silu":
        raise StrataError(f"hidden_act {cfg.hidden_act!r} is not supported in the mixer of Mamba: use a model with silu, its own")
    d, inner = cfg.hidden_size, cfg.mamba_expand * cfg.hidden_size
    sizes = Sizes(cfg.vocab_size, d, 0, inner, cfg.mamba_d_state, cfg.mamba_d_conv, 0, cfg.mamba_dt_rank, None)
    states = StateSpace(sizes, How(eps=cfg.rms_norm_eps), cfg.mamba_conv_bias, cfg.mamba_proj_bias)
    layers = [Layer(rotation=None, state_space=None if kind == "attention" else states) for kind in cfg.layers_block_type]
    dense = [i for i, n in enumerate(cfg.layers_num_experts) if n <= 1]
    return sparse(layers, Experts(cfg.num_experts, cfg.num_experts_per_tok, cfg.intermediate_size), dense)


JAMBA = Decoder(layout=LAYOUT, reads=("num_experts", "num_local_experts", RECURRENT), layers=_layers)
FAMILY = DecoderFamily("jamba", {"jamba": JAMBA})
build, layout = FAMILY.build, FAMILY.layout
