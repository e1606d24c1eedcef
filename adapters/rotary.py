"""Positions that rotate queries and keys, in whole or in part; frequencies are those of transformers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXRotaryEmbedding

ONE = "all"  # kind of rotation where all layers have the same


class Rotation(NamedTuple):
    cos: Tensor  # (1 or D, T, rotated channels of a head)
    sin: Tensor


def kinds_of(cfg: PreTrainedConfig) -> dict[str, dict[str, Any]]:
    """`rope_parameters` by kind of rotation: types of layers where config.json has them for each, else ONE."""
    found = getattr(cfg, "rope_parameters", None) or {}
    nested = {kind: dict(own) for kind, own in found.items() if isinstance(own, Mapping)}
    return nested or {ONE: dict(found)}


def rotary(cfg: PreTrainedConfig, parameters: dict[str, Any]) -> nn.Module:
    """A module from (x, positions) to cosines and sines (positions, T, rotated channels): GPT-NeoX's, which knows partial rotation."""
    own = copy.copy(cfg)
    own.rope_parameters = parameters
    return GPTNeoXRotaryEmbedding(own)


def rotate(q: Tensor, rotation: Rotation) -> Tensor:
    """Queries or keys q (V*D, heads, T, head_dim) with their first channels rotated by halves, as in Hugging Face's layout."""
    cos, sin = rotation.cos[:, None], rotation.sin[:, None]  # (1 or D, 1, T, rotated)
    n, per_document = cos.shape[-1], q.unflatten(0, (-1, cos.shape[0]))  # (V, D, ...) or (V*D, 1, ...)
    turned = per_document[..., :n]
    a, b = turned.chunk(2, -1)
    turned = turned * cos + torch.cat((-b, a), -1) * sin
    return (turned if n == q.shape[-1] else torch.cat((turned, per_document[..., n:]), -1)).flatten(0, 1)
