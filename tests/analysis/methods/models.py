"""Tiny models to prune, published shapes, and calibration tokens."""

from __future__ import annotations

import numpy as np
import torch

from adapters import BlockModel
from adapters.families import baichuan, llama
from analysis.data.batches import Batch
from tests.adapters.families.test_baichuan import PUBLISHED
from tests.adapters.families.test_llama import LLAMA_2, LLAMA_2_7B, LLAMA_2_13B, block_shapes
from tests.adapters.published import published
from tests.reference import variants
from tests.reference.models import pair

LLAMAS = {
    "llama": ("llama", {"num_attention_heads": 6, "num_key_value_heads": 2}),
    "tied": ("llama", {"tie_word_embeddings": True}),
    "biased": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 16}),
}
MODELS = (*LLAMAS, *variants.BAICHUAN)


def model(name: str, dtype: str = "float64") -> BlockModel:
    """Three blocks; Baichuan has three heads of eight, Llama's query heads are grouped."""
    if name in LLAMAS:
        model_type, config = LLAMAS[name]
        return pair(model_type, dtype, **config)[0]
    return variants.model(name, dtype)


def llama_2(size: str) -> BlockModel:
    """The shape of Llama-2, without numbers."""
    config, ffn = {"7b": (LLAMA_2_7B, 11008), "13b": (LLAMA_2_13B, 13824)}[size]
    d = config["hidden_size"]
    return published(llama.build, config, block_shapes(d, d, ffn, old=True))


def smollm2() -> BlockModel:
    """The shape of SmolLM2-135M, without numbers."""
    heads = {"num_attention_heads": 9, "num_key_value_heads": 3, "num_hidden_layers": 30}
    sizes = {"hidden_size": 576, "intermediate_size": 1536, "vocab_size": 49152, "tie_word_embeddings": True}
    return published(llama.build, LLAMA_2 | heads | sizes, block_shapes(576, 192, 1536, old=False))


def baichuan2_7b() -> BlockModel:
    """The shape of Baichuan2-7B, without numbers."""
    config, block, _ = PUBLISHED["baichuan2-7b"]
    return published(baichuan.build, config, block)


def text(*lengths: int, seed: int = 0, vocab: int = 97) -> Batch:
    """Random tokens of documents of the given lengths, padded on the right with whatever."""
    ids = torch.randint(vocab, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(seed))
    return Batch([], ids, torch.tensor(lengths), np.array(lengths) - 1, np.array(lengths))


def state(m: BlockModel) -> list[torch.Tensor]:
    """A copy of all numbers."""
    return [t.clone() for table in (m.weights, *(block.weights for block in m.blocks)) for t in table.values()]
