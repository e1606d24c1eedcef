"""config.json of decoders: as transformers reads it, checked for what this project computes.

transformers checks types, and goes on with a warning or not at all where a number makes no sense, or where a key belongs to
another architecture. What would be a wrong number is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from adapters.checkpoints.configs import stock_config
from adapters.errors import StrataError, one_line, unknown
from adapters.rotary import ONE, kinds_of

SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "max_position_embeddings")
HEADS = ("num_attention_heads", "num_key_value_heads")
OPTIONAL = ("head_dim", "sliding_window")  # sizes that may be missing
MAY_BE_ZERO = (
    "rms_norm_eps",
    "layer_norm_eps",
    "layer_norm_epsilon",
    "norm_epsilon",
    "rope_parameters.mscale",
    "rope_parameters.mscale_all_dim",
)
FACTORS = ("embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling", "logit_scale", "clip_qkv")
LARGEST = torch.finfo(torch.float32).max  # what is computed with may be no larger
LAYERS = ("full_attention", "sliding_attention")
RECURRENT = "attn_layer_period"  # in `reads` of tables whose other blocks have a recurrence
PARTIAL = ("partial_rotary_factor", "rotary_pct")
NEUTRAL: dict[str, tuple] = (  # keys that change what a block computes -> values with which they do not, beside null
    dict.fromkeys((*PARTIAL, "logit_scale", "logits_scaling", "embedding_multiplier", "residual_multiplier", "scale_emb"), (1,))
    | dict.fromkeys(("attention_multiplier", "scale_depth", "query_pre_attn_scalar", "clip_qkv", "no_rope_layers", "rotary_dim"), ())
    | dict.fromkeys(("attn_logit_softcapping", "final_logit_softcapping"), ())
    | dict.fromkeys(("alibi", "parallel_attn", "use_parallel_residual", "use_qk_norm", "qk_layernorm"), (False,))
    | dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), (0, 1))
    | dict.fromkeys(("scale_attn_by_inverse_layer_idx", "add_cross_attention"), (False,))
    | dict.fromkeys(("do_layer_norm_before", "layer_norm_elementwise_affine"), (True,))
    | {"scoring_func": ("softmax",), "topk_method": ("greedy",), "router_type": ()}  # of routers
    | dict.fromkeys(("routed_scaling_factor", "n_group", "topk_group", "n_shared_experts", "num_shared_experts"), (0, 1))
    | {"word_embed_proj_dim": (), "_remove_final_layer_norm": (False,)}
    | {"is_causal": (True,), "use_bidirectional_attention": (False,), "scale_attn_weights": (True,)}
)


class Sizes(NamedTuple):
    """Of a decoder."""

    vocab: int
    d: int
    d_ffn: int
    blocks: int
    max_len: int
    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    act: str


def sizes(cfg: PreTrainedConfig, names: Mapping[str, str]) -> Sizes:
    vocab, d, d_ffn, blocks, max_len, heads, kv_heads, eps, act = (
        getattr(cfg, names.get(key, key)) for key in (*SIZES, *HEADS, "rms_norm_eps", "hidden_act")
    )
    return Sizes(vocab, d, d_ffn, blocks, max_len, heads, kv_heads, getattr(cfg, "head_dim", None) or d // heads, eps, act)


def configuration(
    config: dict, name: str, n_tensors: int, names: Mapping[str, str] = MappingProxyType({}), reads: tuple[str, ...] = ()
) -> PreTrainedConfig:
    """The checked configuration of a checkpoint of `n_tensors`; `names` and `reads` are as in `table.Decoder`.

    Raises StrataError on what is not valid, or not computed here.
    """
    depth = names.get("num_hidden_layers", "num_hidden_layers")
    n = config.get(depth)
    if isinstance(n, int) and n > n_tensors:  # before anything has that length
        found = f"config.json says {depth} {n}, its weights are {n_tensors} tensors"
        raise StrataError(f"{name}: {found}: it is incomplete, or config.json is of another model")
    try:
        cfg = stock_config(config)
        assert cfg is not None, "families of decoders are known to transformers"
    except Exception as error:  # transformers validates with many exception types
        raise StrataError(f"{name}: config.json is not valid: {one_line(error)}") from error
    act, eps = (names.get(key, key) for key in ("hidden_act", "rms_norm_eps"))
    rope, types = _rope(cfg)
    for noun, said, valid in (
        (act, getattr(cfg, act), ACT2FN),
        *(("rope_type", said, ("default", *ROPE_INIT_FUNCTIONS)) for said in types),
    ):
        if said not in valid:
            raise unknown(f"{noun} of {name}", str(said), valid)
    _require_sizes(cfg, name, names)
    factors = {key: config[key] for key in reads if key in FACTORS and config.get(key) is not None}
    _require_numbers({eps: getattr(cfg, eps)} | factors | rope, name)
    _require_layers(cfg, name, LAYERS + (("linear_attention",) if RECURRENT in reads else ()))
    _refuse_others(config | rope, reads + (PARTIAL if "proportional" in types else ()), name)
    return cfg


def _rope(cfg: PreTrainedConfig) -> tuple[dict[str, Any], list[Any]]:
    """What rope_parameters say, by their place in config.json, and their types; both empty where there are none."""
    if not getattr(cfg, "rope_parameters", None):
        return {}, []
    kinds = kinds_of(cfg)
    places = {kind: "rope_parameters." + ("" if kind == ONE else f"{kind}.") for kind in kinds}
    return {places[kind] + key: value for kind, own in kinds.items() for key, value in own.items()}, [
        own.get("rope_type") for own in kinds.values()
    ]


def _require_sizes(cfg: PreTrainedConfig, name: str, names: Mapping[str, str]) -> None:
    optional = {key: value for key in OPTIONAL if (value := getattr(cfg, key, None)) is not None}
    if optional.get("sliding_window") == 0 and "full_attention" in (getattr(cfg, "layer_types", None) or ()):
        del optional["sliding_window"]  # Qwen2-MoE's way to say that none is used
    needed = [names.get(key, key) for key in (*SIZES, *HEADS)]
    for key, value in ({key: getattr(cfg, key) for key in needed} | optional).items():
        if type(value) is not int or value < 1:
            raise StrataError(f"{name}: config.json is not valid: {key} is {value!r}, expected a whole number above zero")
    n_heads, n_kv_heads = (getattr(cfg, key) for key in needed[-2:])
    if n_heads % n_kv_heads:
        heads = f"{n_heads} heads in {n_kv_heads} groups ({needed[-1]})"
        raise StrataError(f"{name}: config.json is not valid: {heads}, expected groups of one size")


def _require_numbers(values: dict[str, Any], name: str) -> None:
    for key, value in values.items():
        flag = isinstance(value, bool)  # says where a scaling is from (finetuned), or how transformers rounds (truncate)
        numbers = value if isinstance(value, list) else [value] if isinstance(value, int | float) and not flag else []
        if not all(0 < x <= LARGEST or (x == 0 and key in MAY_BE_ZERO) for x in numbers):
            raise StrataError(f"{name}: config.json is not valid: {key} is {value!r}, expected numbers above zero that 32 bits hold")


def _require_layers(cfg: PreTrainedConfig, name: str, known: tuple[str, ...]) -> None:
    kinds = set(getattr(cfg, "layer_types", None) or ())
    if kinds - set(known):
        raise StrataError(f"{name} has layers of the types {', '.join(sorted(kinds))}: only full and sliding attention are supported")
    if len(getattr(cfg, "layer_types", None) or ()) not in (0, cfg.num_hidden_layers):
        raise StrataError(
            f"{name}: config.json has {len(cfg.layer_types)} layer_types for {cfg.num_hidden_layers} layers: one each is expected"
        )
    if "sliding_attention" in kinds and getattr(cfg, "sliding_window", None) is None:
        raise StrataError(f"{name}: config.json names layers of sliding attention, but no sliding_window: use that of the weights")


def _refuse_others(values: dict[str, Any], but: tuple[str, ...], name: str) -> None:
    """Raises StrataError on keys of other architectures; of `values` those of rope_parameters have it in front."""
    for key, value in values.items():
        own = key.rpartition(".")[2] if key.startswith("rope_parameters.") else key
        if own in NEUTRAL and own not in but and value not in (None, *NEUTRAL[own]):
            raise StrataError(f"{name}: config.json says {key} {value!r}, which is not supported: use a model without it")
