"""SliceGPT without a rotation: a Hugging Face model whose stream is projected in front of every sub-layer.

Rotated weights, a narrow stream and skips give the same as the model itself with x -> x P, P the projection on the d' principal
axes, in front of each mixer and ffn. The axes are the right singular vectors of all real tokens' streams.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel


def projections(model: PreTrainedModel, ids: Tensor, lengths: Tensor, kept: int) -> list[Tensor]:
    """P (d, d) of each sub-layer, from documents (D, T)."""
    found: list[Tensor] = []
    rows = [row[:n][None] for row, n in zip(ids, lengths.tolist(), strict=True)]
    xs = [model.model.embed_tokens(row) for row in rows]
    for at in range(2 * len(model.model.layers)):
        _, _, right = np.linalg.svd(torch.cat(xs, 1)[0].numpy())
        axes = torch.from_numpy(right[:kept].copy())
        found.append(axes.T @ axes)
        xs = [_sublayer(model, at, x @ found[-1]) for x in xs]
    return found


def logits(model: PreTrainedModel, ids: Tensor, found: list[Tensor]) -> Tensor:
    """Of documents (D, T) without padding."""
    x = model.model.embed_tokens(ids)
    for at, projection in enumerate(found):
        x = _sublayer(model, at, x @ projection)
    return model.lm_head(model.model.norm(x))


def _sublayer(model: PreTrainedModel, at: int, x: Tensor) -> Tensor:
    layer = model.model.layers[at // 2]
    if at % 2:
        return x + layer.mlp(layer.post_attention_layernorm(x))
    rotary = model.model.rotary_emb(x, torch.arange(x.shape[1])[None])
    return x + layer.self_attn(layer.input_layernorm(x), position_embeddings=rotary, attention_mask=None)[0]
