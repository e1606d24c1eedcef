"""Models of published sizes without their weights: key lists and shapes on the meta device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from adapters import BlockModel
from adapters.checkpoints.layout import Store


class Keys(Store):
    """Keys and shapes without contents, which have no hash."""

    hash = ""


def published(build: Callable, config: dict, block: Mapping[str, tuple[int, ...]]) -> BlockModel:
    """The model of a config.json and of a key list in Hugging Face's layout with the given keys in each block."""
    d, vocab = config["hidden_size"], config["vocab_size"]
    shapes = {"model.embed_tokens.weight": (vocab, d), "model.norm.weight": (d,)}
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (vocab, d)
    for i in range(config["num_hidden_layers"]):
        shapes |= {f"model.layers.{i}.{key}": shape for key, shape in block.items()}
    return meta(build, config, shapes)


def meta(build: Callable, config: dict, shapes: Mapping[str, tuple[int, ...]]) -> BlockModel:
    """The model of a config.json and of a list of keys and shapes, which has run on four tokens."""
    store = Keys(Path("published"), dict(shapes), lambda key: torch.empty(shapes[key], device="meta"), torch.device("meta"))
    model = build(config, store, "published")
    assert model.run(torch.zeros(1, 4, dtype=torch.long, device="meta")).shape == (1, 4, config["vocab_size"])
    return model
