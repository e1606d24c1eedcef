"""Greedy generation through `past`: each token is computed once, for every family alike."""

from __future__ import annotations

import torch
from torch import Tensor

from adapters.ablation import NONE, Ablation
from adapters.base import BlockModel, BlockPast


@torch.inference_mode()
def generate(model: BlockModel, ids: Tensor, n_tokens: int, ablation: Ablation = NONE) -> Tensor:
    """The `n_tokens` likeliest tokens, one after the other, behind each row of `ids` (D, T): (D, n_tokens)."""
    actions = ablation.actions(len(model.blocks))
    pasts: list[BlockPast | None] = [None] * len(actions)
    start, out = torch.zeros(len(ids), dtype=torch.long, device=model.device), list[Tensor]()
    ids = ids.to(model.device)
    for _ in range(n_tokens):
        x, ctx = model.begin(ids, start=start)
        for i, action in enumerate(actions):
            step = model.advance(i, x, ctx, [(0, action)], pasts[i])
            x, pasts[i] = step.x, step.past
        start = start + ids.shape[1]
        ids = model.logits(x[:, -1:]).argmax(-1)  # (D, 1)
        out.append(ids)
    return torch.cat(out, 1)
