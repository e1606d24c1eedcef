"""The next token from logits: the likeliest one, or one that a row's own seeded numbers choose."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapters.errors import StrataError


@dataclass(frozen=True, slots=True)
class Sampling:
    """`temperature` 0: the likeliest token. Else from the `top_k` likeliest ones (0: all), of which those that together have `top_p`.

    The numbers drawn for a prompt depend on `seed` and on the prompt alone, so that all ablations of a model share them.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.temperature >= 0 and 0 < self.top_p <= 1 and self.top_k >= 0):
            found = f"temperature {self.temperature:g}, top_p {self.top_p:g}, top_k {self.top_k}"
            raise StrataError(f"text cannot be sampled with {found}: expected temperature and top_k from 0 on, top_p above 0 and up to 1")

    def numbers(self, prompt: Sequence[int]) -> random.Random:
        """Those of a prompt, one for each token behind it."""
        return random.Random(repr((self.seed, tuple(prompt))))  # noqa: S311 - a measurement, no secret


def choose(logits: Tensor, sampling: Sampling, numbers: Sequence[float]) -> Tensor:
    """A token for each row of logits (rows, vocab), by a number in [0, 1) each where it is sampled: (rows,)."""
    if not sampling.temperature:
        return logits.argmax(-1)
    p, tokens = (logits.double() / sampling.temperature).softmax(-1).sort(dim=-1, descending=True, stable=True)
    if sampling.top_k:
        p = p[:, : sampling.top_k] / p[:, : sampling.top_k].sum(-1, keepdim=True)
    before = p.cumsum(-1) - p  # of likelier tokens
    ends = p.where(before < sampling.top_p, 0.0).cumsum(-1)
    at = torch.tensor(numbers, dtype=torch.float64, device=p.device)[:, None] * ends[:, -1:]
    place = torch.searchsorted(ends, at, right=True).clamp(max=p.shape[1] - 1)
    return tokens.gather(-1, place)[:, 0]
