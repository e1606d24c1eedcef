"""Baichuan-7B, Baichuan2-7B, Baichuan-13B and Baichuan2-13B: the Llama block with what differs.

Queries, keys and values are one fused weight. The 7B models rotate positions as Llama does; the 13B models have linear
biases instead (ALiBi, Press et al. 2022, arXiv:2108.12409). The head of Baichuan 2 has rows of length one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedConfig

from adapters.attention import AttentionContext, KeyValuePast, join, positions
from adapters.base import Block, right_padded
from adapters.checkpoints.layout import Layout, Slot, Store
from adapters.families import llama
from adapters.specs import ModelSpec

LAYOUT = Layout(
    model=llama.LAYOUT.model,
    block=dict(llama.LAYOUT.block) | {role: Slot("model.layers.{i}.self_attn.W_pack.weight", part, 3) for part, role in enumerate("qkv")},
    ignored=llama.LAYOUT.ignored,
)
BIAS_NUMBERS = 1 << 24  # of biases that exist at once: 64 MB; all 40 heads x 4096 x 4096 of them would be 2.7 GB


def layout(store: Store) -> Layout:
    """That of every checkpoint of the family."""
    return LAYOUT


@dataclass(frozen=True, slots=True, kw_only=True)
class AlibiContext(AttentionContext):
    slopes: Tensor  # (n_heads,)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, past: KeyValuePast | None) -> tuple[Tensor, KeyValuePast]:
        """softmax(q k^T / sqrt(head_dim) - slope * distance) v, a slice of queries at a time.

        In fp32 at least, and from distances: published code adds slope * key position, which bf16 rounds by up to 16.
        """
        k, v, after = join(k, v, self, past)
        time, wide = q.shape[2], torch.promote_types(q.dtype, torch.float32)
        now, there = positions(time, past, q.device)
        keys, values, slopes = k.to(wide), v.to(wide), self.slopes.to(wide)[:, None, None]
        step = max(1, BIAS_NUMBERS // (len(slopes) * there.numel()))
        outs = []
        for first in range(0, time, step):
            last = min(first + step, time)
            seen = k.shape[2] - time + last  # no query of this slice looks behind it
            distance = now[:, None, first:last, None] - there[:, None, None, :seen]  # (1 or rows, 1, slice, seen)
            bias = (-slopes * distance).masked_fill(distance < 0, -math.inf)  # (1 or rows, n_heads, slice, seen)
            queries = q[:, :, first:last].to(wide)
            outs.append(F.scaled_dot_product_attention(queries, keys[:, :, :seen], values[:, :, :seen], attn_mask=bias))
        return torch.cat(outs, 2).to(q.dtype), after


class AlibiModel(llama.LlamaModel):
    def __init__(self, spec: ModelSpec, config: PreTrainedConfig, weights: dict[str, Tensor], blocks: Sequence[Block]) -> None:
        super().__init__(spec, config, weights, blocks)
        self._slopes = torch.tensor(alibi_slopes(config.num_attention_heads), device=self.device)

    def begin(self, ids: Tensor, *, lengths: Tensor | None = None, start: Tensor | None = None) -> tuple[Tensor, AttentionContext]:
        """`start` is not needed: only distances count, and the past knows its length."""
        x = F.embedding(ids, self.weights["embed"])
        return x, AlibiContext(documents=ids.shape[0], lengths=right_padded(ids, lengths), slopes=self._slopes)


def alibi_slopes(n_heads: int) -> list[float]:
    """Powers of 2^(-8/n) for n heads, n a power of two; else those of the power below, then every other one of the power above."""
    below = 1 << (n_heads.bit_length() - 1)
    slopes = [2.0 ** (-8 * i / below) for i in range(1, below + 1)]
    return slopes + [2.0 ** (-4 * i / below) for i in range(1, 2 * (n_heads - below), 2)]


def build(config: dict, store: Store, name: str) -> llama.LlamaModel:
    """A model from the contents of config.json and its checkpoint. Raises StrataError by name of what differs."""
    # Nothing names the size. Published 13B files say model_max_length and no max_position_embeddings; tools that need
    # the latter add it to copies, so the width of the 13B models counts too.
    alibi = "max_position_embeddings" not in config or config.get("hidden_size") == 5120
    v2 = bool(config.get("norm_head", "z_loss_weight" in config or config.get("vocab_size") == 125696))
    same = {"model_type": "llama", "num_key_value_heads": config.get("num_attention_heads")}
    if "max_position_embeddings" not in config:
        same["max_position_embeddings"] = config.get("model_max_length", 4096)
    cfg = llama.configuration(config | same, name)
    variant = ("baichuan2" if v2 else "baichuan") + ("-13b" if alibi else "-7b")
    model = llama.assemble(AlibiModel if alibi else llama.LlamaModel, cfg, LAYOUT, store, ("baichuan", variant, name))
    if v2:  # the published head does this at its first forward, and overwrites its own weight
        head = model.weights.get("unembed", model.weights["embed"])
        model.weights["unembed"] = F.normalize(head.float(), dim=-1).to(head.dtype)
    return model
