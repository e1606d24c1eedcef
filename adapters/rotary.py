"""Positions that rotate queries and keys, in whole or in part; frequencies are those of transformers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXRotaryEmbedding

from adapters.errors import StrataError

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
    return LongRope(own) if parameters.get("rope_type") == "longrope" else GPTNeoXRotaryEmbedding(own)


class LongRope(nn.Module):
    """Texts that go beyond the original context rotate otherwise, from their first token on (Ding et al. 2024, arXiv:2402.13753).

    transformers goes by the longest text of a batch; here it is each by itself, for scores do not depend on what is beside a text.
    """

    def __init__(self, cfg: PreTrainedConfig) -> None:
        super().__init__()
        self.bound = cfg.rope_parameters["original_max_position_embeddings"]
        self.short, self.long = GPTNeoXRotaryEmbedding(cfg), GPTNeoXRotaryEmbedding(cfg)
        self.long.inv_freq = ROPE_INIT_FUNCTIONS["longrope"](cfg, None, seq_len=self.bound + 1)[0]
        self.short.rope_type = self.long.rope_type = "default"  # no change of frequencies while it runs

    def forward(self, x: Tensor, positions: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        """`ends` () or (D,): how long each text is up to here. Raises StrataError where one passes the bound behind a past."""
        long, starts = ends.to(x.device) > self.bound, positions[:, 0]
        if x.device.type != "meta" and ((starts > 0) & (starts <= self.bound) & long).any():
            raise StrataError(
                f"a text goes on beyond {self.bound} tokens, where all of it rotates otherwise (longrope): read it whole, or give less"
            )
        (cos, sin), (long_cos, long_sin) = self.short(x, positions), self.long(x, positions)
        long = long[..., None, None]
        return torch.where(long, long_cos, cos), torch.where(long, long_sin, sin)


def rotation(module: nn.Module, x: Tensor, positions: Tensor, ends: Tensor) -> Rotation:
    """Of a module of `rotary`, at positions (1 or D, T) of texts that are `ends` () or (D,) tokens long up to here."""
    return Rotation(*(module(x, positions, ends) if isinstance(module, LongRope) else module(x, positions)))


def rotate(q: Tensor, rotation: Rotation, neighbours: bool = False) -> Tensor:
    """Queries or keys q (V*D, heads, T, head_dim) with their first channels rotated: each of the first half with its like in the
    second, as in most of Hugging Face's layouts, or `neighbours` in pairs."""
    cos, sin = rotation.cos[:, None], rotation.sin[:, None]  # (1 or D, 1, T, rotated)
    n, per_document = cos.shape[-1], q.unflatten(0, (-1, cos.shape[0]))  # (V, D, ...) or (V*D, 1, ...)
    turned = per_document[..., :n]
    if neighbours:
        (a, b), cos, sin = turned.unflatten(-1, (-1, 2)).unbind(-1), cos[..., : n // 2], sin[..., : n // 2]
        turned = torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2)
    else:
        a, b = turned.chunk(2, -1)
        turned = turned * cos + torch.cat((-b, a), -1) * sin
    return (turned if n == q.shape[-1] else torch.cat((turned, per_document[..., n:]), -1)).flatten(0, 1)
