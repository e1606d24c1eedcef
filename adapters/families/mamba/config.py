"""config.json of state-space models: as transformers reads it, checked for what is computed here, and the shapes that it asks for."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from adapters.checkpoints.configs import stock_config
from adapters.errors import StrataError, one_line
from adapters.families.mamba.mixers import How

Shapes = dict[str, tuple[int, ...]]  # by role
Config = Any  # of transformers

COUNTS = ("vocab_size", "hidden_size", "num_hidden_layers", "state_size", "conv_kernel")
OWN_COUNTS = {"mamba2": ("num_heads", "head_dim", "n_groups"), "mamba": ("intermediate_size", "time_step_rank")}
MAX_LEN = ("max_position_embeddings", "context_length"), 2048  # keys that say it, and what the published models were trained with
# By model_type, whatever else config.json says: transformers passes over the keys of others.
EPS = "layer_norm_epsilon"
INNER_EPS = {"mamba": None, "falcon_mamba": "mixer_rms_eps", "mamba2": EPS}  # of norms inside a mixer
LIMITS = {"mamba2": "time_step_limit"}  # from and to which steps go
LARGEST = torch.finfo(torch.float32).max
ONE_GROUP = (
    "its norm is over each group of heads where it was trained, and over all of them in transformers, whose numbers are then not the "
    "model's: use a model with one group"
)


class Sizes(NamedTuple):
    vocab: int
    d: int
    blocks: int
    inner: int  # channels
    state: int
    kernel: int  # tokens
    max_len: int
    rank: int  # of what steps are made from; of Mamba-2 its number of heads
    n_heads: int | None


def configuration(config: dict, name: str, n_tensors: int) -> tuple[Config, Sizes]:
    """The checked configuration of a checkpoint of `n_tensors`. Raises StrataError on what is not valid, or not computed here."""
    n = config.get("num_hidden_layers")
    if isinstance(n, int) and n > n_tensors:  # before anything has that length
        found = f"config.json says num_hidden_layers {n}, its weights are {n_tensors} tensors"
        raise StrataError(f"{name}: {found}: it is incomplete, or config.json is of another model")
    try:
        cfg: Config = stock_config(config)
        assert cfg is not None, "these are known to transformers"
    except Exception as error:  # transformers validates with many exception types
        raise StrataError(f"{name}: config.json is not valid: {one_line(error)}") from error
    two = cfg.model_type == "mamba2"
    for key in COUNTS + OWN_COUNTS["mamba2" if two else "mamba"]:
        count = getattr(cfg, key)
        if type(count) is not int or count < 1:
            raise StrataError(f"{name}: config.json is not valid: {key} is {count!r}, expected a whole number above zero")
    _require_numbers(cfg, name)
    if cfg.hidden_act != "silu":
        raise StrataError(f"{name}: hidden_act {cfg.hidden_act!r} is not supported: use a model with silu, Mamba's own")
    if two and cfg.n_groups != 1:
        raise StrataError(f"{name}: config.json says n_groups {cfg.n_groups}, which is not supported: {ONE_GROUP}")
    keys, usual = MAX_LEN
    max_len = next((n for key in keys if type(n := getattr(cfg, key, None)) is int and n > 0), usual)
    heads = cfg.num_heads if two else None
    inner = cfg.num_heads * cfg.head_dim if two else cfg.intermediate_size
    rank = cfg.num_heads if two else cfg.time_step_rank
    return cfg, Sizes(cfg.vocab_size, cfg.hidden_size, cfg.num_hidden_layers, inner, cfg.state_size, cfg.conv_kernel, max_len, rank, heads)


def _require_numbers(cfg: Config, name: str) -> None:
    for key in {EPS, INNER_EPS[cfg.model_type] or EPS}:
        value = getattr(cfg, key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
            raise StrataError(f"{name}: config.json is not valid: {key} is {value!r}, expected a number from zero on that 32 bits hold")
    steps = limits(cfg)
    if len(steps) != 2 or not 0 <= steps[0] < steps[1]:
        raise StrataError(f"{name}: config.json is not valid: time_step_limit is {steps}, expected two numbers from zero on, ascending")


def inner_eps(cfg: Config) -> float | None:
    """Of norms inside a mixer; None: there are none."""
    key = INNER_EPS[cfg.model_type]
    return getattr(cfg, key) if key else None


def limits(cfg: Config) -> tuple[float, ...]:
    """From and to which steps go."""
    key = LIMITS.get(cfg.model_type)
    return tuple(getattr(cfg, key)) if key else How().steps


def model_shapes(cfg: Config, n: Sizes) -> Shapes:
    shapes: Shapes = {"embed": (n.vocab, n.d), "norm": (n.d,)}
    return shapes if cfg.tie_word_embeddings else shapes | {"unembed": (n.vocab, n.d)}


def block_shapes(cfg: Config, n: Sizes) -> Shapes:
    """Shape of every role that the configuration asks for."""
    shapes = mixer_shapes(n, conv_bias=cfg.use_conv_bias, bias=cfg.use_bias)
    return {"mixer_norm": (n.d,), **shapes}


def mixer_shapes(n: Sizes, *, conv_bias: bool, bias: bool) -> Shapes:
    two = n.n_heads is not None
    shapes: Shapes = {"x": (n.inner, n.d), "g": (n.inner, n.d), "o": (n.d, n.inner)}
    shapes |= dict.fromkeys("bc", (n.state, n.d if two else n.inner))
    channels = n.inner + 2 * n.state if two else n.inner
    shapes |= {"conv": (channels, 1, n.kernel)} | ({"conv_bias": (channels,)} if conv_bias else {})
    if two:
        shapes |= {"step_in": (n.rank, n.d), "step_bias": (n.rank,), "decay": (n.rank,), "skip": (n.rank,), "head_norm": (n.inner,)}
    else:
        shapes |= {"step_in": (n.rank, n.inner), "step": (n.inner, n.rank), "step_bias": (n.inner,)}
        shapes |= {"decay": (n.inner, n.state), "skip": (n.inner,)}
    biased = ("x", "g", "o", *(("b", "c", "step_in") if two else ())) if bias else ()
    return shapes | {f"{role}_bias": shapes[role][:1] for role in biased}
