"""Greedy generation through `past`: each token is computed once, for every family alike."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor

from adapters.ablation import NONE, Ablation
from adapters.base import BlockModel, BlockPast


def generate(model: BlockModel, ids: Tensor, n_tokens: int, ablation: Ablation = NONE) -> Tensor:
    """The `n_tokens` likeliest tokens, one after the other, behind each row of `ids` (D, T): (D, n_tokens)."""
    return torch.cat(list(islice(tokens(model, ids, ablation), n_tokens)), 1)


@torch.inference_mode()
def tokens(model: BlockModel, ids: Tensor, ablation: Ablation = NONE) -> Iterator[Tensor]:
    """The likeliest token behind each row of `ids` (D, T), then that behind it, and so on without an end: (D, 1) each.

    Raises StrataError when the ablation names a block or a head that the model does not have.
    """
    actions = ablation.actions(model.spec)
    pasts: list[BlockPast | None] = [None] * len(actions)
    start = torch.zeros(len(ids), dtype=torch.long, device=model.device)
    ids = ids.to(model.device)
    while True:
        x, ctx = model.begin(ids, start=start)
        for i, action in enumerate(actions):
            step = model.advance(i, x, ctx, [(0, action)], pasts[i])
            x, pasts[i] = step.x, step.past
        start = start + ids.shape[1]
        ids = model.logits(x[:, -1:]).argmax(-1)
        yield ids
