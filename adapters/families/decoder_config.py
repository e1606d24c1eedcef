"""config.json of decoders with the Llama block: as transformers reads it, checked for what this project computes.

transformers checks types, and goes on with a warning or not at all where a number makes no sense, or where a key belongs to
another architecture. What would be a wrong number is refused here.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from adapters.errors import StrataError, one_line, unknown
from adapters.registry import FAMILIES

SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "max_position_embeddings")
HEADS = ("num_attention_heads", "num_key_value_heads")
OPTIONAL = ("head_dim", "sliding_window")  # sizes that may be missing
MAY_BE_ZERO = ("rms_norm_eps", "rope_parameters.mscale", "rope_parameters.mscale_all_dim")
LABELS = ("num_labels", "id2label", "label2id")  # of classifiers: tables of any length
LARGEST = torch.finfo(torch.float32).max  # what is computed with may be no larger
LAYERS = ("full_attention", "sliding_attention")
PARTIAL = ("partial_rotary_factor", "rotary_pct")
NEUTRAL: dict[str, tuple] = (  # keys that change what a block computes -> values with which they do not, beside null
    dict.fromkeys((*PARTIAL, "logit_scale", "logits_scaling", "embedding_multiplier", "residual_multiplier", "scale_emb"), (1,))
    | dict.fromkeys(("attention_multiplier", "scale_depth", "query_pre_attn_scalar", "clip_qkv", "no_rope_layers"), ())
    | dict.fromkeys(("attn_logit_softcapping", "final_logit_softcapping"), ())
    | dict.fromkeys(("alibi", "parallel_attn", "use_parallel_residual", "use_qk_norm", "qk_layernorm"), (False,))
    | dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), (0, 1))
    | {"is_causal": (True,), "use_bidirectional_attention": (False,)}
)


def configuration(config: dict, name: str, n_tensors: int) -> PreTrainedConfig:
    """The checked configuration of a checkpoint of `n_tensors`. Raises StrataError on what is not valid, or not computed here."""
    model_type, known = config.get("model_type", ""), FAMILIES["llama"].model_types
    if model_type not in known:
        raise unknown(f"model_type of {name}", str(model_type), known)
    n = config.get("num_hidden_layers")
    if isinstance(n, int) and n > n_tensors:  # before anything has that length
        found = f"config.json says num_hidden_layers {n}, its weights are {n_tensors} tensors"
        raise StrataError(f"{name}: {found}: it is incomplete, or config.json is of another model")
    try:
        cfg = CONFIG_MAPPING[model_type].from_dict({key: value for key, value in config.items() if key not in LABELS})
    except Exception as error:  # transformers validates with many exception types
        raise StrataError(f"{name}: config.json is not valid: {one_line(error)}") from error
    rope = {f"rope_parameters.{key}": value for key, value in (cfg.rope_parameters or {}).items()}
    rope_type = rope.get("rope_parameters.rope_type")
    for noun, said, valid in (("hidden_act", cfg.hidden_act, ACT2FN), ("rope_type", rope_type, ("default", *ROPE_INIT_FUNCTIONS))):
        if said not in valid:
            raise unknown(f"{noun} of {name}", str(said), valid)
    _require_sizes(cfg, name)
    _require_numbers({"rms_norm_eps": cfg.rms_norm_eps} | rope, name)
    _require_layers(cfg, name)
    _refuse_others(config | rope, PARTIAL if rope_type == "proportional" else (), name)
    return cfg


def window(cfg: PreTrainedConfig) -> int | None:
    """Length up to which sliding attention, of some layers or all, is plain causal attention, which is all that is computed here."""
    sliding = cfg.model_type in ("llama", "mistral") or "sliding_attention" in (getattr(cfg, "layer_types", None) or [])
    return getattr(cfg, "sliding_window", None) if sliding else None


def _require_sizes(cfg: PreTrainedConfig, name: str) -> None:
    optional = {key: value for key in OPTIONAL if (value := getattr(cfg, key, None)) is not None}
    for key, value in ({key: getattr(cfg, key) for key in (*SIZES, *HEADS)} | optional).items():
        if type(value) is not int or value < 1:
            raise StrataError(f"{name}: config.json is not valid: {key} is {value!r}, expected a whole number above zero")
    if cfg.num_attention_heads % cfg.num_key_value_heads:
        heads = f"{cfg.num_attention_heads} heads in {cfg.num_key_value_heads} groups (num_key_value_heads)"
        raise StrataError(f"{name}: config.json is not valid: {heads}, expected groups of one size")


def _require_numbers(values: dict[str, Any], name: str) -> None:
    for key, value in values.items():
        flag = isinstance(value, bool)  # says where a scaling is from (finetuned), or how transformers rounds (truncate)
        numbers = value if isinstance(value, list) else [value] if isinstance(value, int | float) and not flag else []
        if not all(0 < x <= LARGEST or (x == 0 and key in MAY_BE_ZERO) for x in numbers):
            raise StrataError(f"{name}: config.json is not valid: {key} is {value!r}, expected numbers above zero that 32 bits hold")


def _require_layers(cfg: PreTrainedConfig, name: str) -> None:
    kinds = set(getattr(cfg, "layer_types", None) or ())
    if kinds - set(LAYERS):
        raise StrataError(f"{name} has layers of the types {', '.join(sorted(kinds))}: only full and sliding attention are supported")
    if "sliding_attention" in kinds and getattr(cfg, "sliding_window", None) is None:
        raise StrataError(f"{name}: config.json names layers of sliding attention, but no sliding_window: use that of the weights")


def _refuse_others(values: dict[str, Any], but: tuple[str, ...], name: str) -> None:
    """Raises StrataError on keys of other architectures; of `values` those of rope_parameters have it in front."""
    for key, value in values.items():
        own = key.removeprefix("rope_parameters.")
        if own in NEUTRAL and own not in but and value not in (None, *NEUTRAL[own]):
            raise StrataError(f"{name}: config.json says {key} {value!r}, which is not supported: use a model without it")
