"""Baichuan-7B, Baichuan2-7B, Baichuan-13B and Baichuan2-13B: the Llama block with what differs.

Queries, keys and values are one fused weight. The 7B models rotate positions as Llama does; the 13B models have linear
biases instead (ALiBi, Press et al. 2022, arXiv:2108.12409). The head of Baichuan 2 has rows of length one.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from adapters.checkpoints.layout import Layout, Store
from adapters.decoder import DecoderModel
from adapters.errors import StrataError
from adapters.families import llama
from adapters.families.decoder_config import configuration
from adapters.families.table import Layer, assemble, modules

LAYOUT = replace(llama.LAYOUT, block={**llama.LAYOUT.block, **modules({"q k v": "model.layers.{i}.self_attn.W_pack"})})
FIRST = "BaiChuanForCausalLM"  # class of Baichuan-7B alone; all later ones are BaichuanForCausalLM
PUBLISHED = {4096: False, 5120: True}  # hidden_size of the 7B and 13B models -> whether they have linear biases
ROTATION = {"rope_type": "default", "rope_theta": 10000.0}


ROTARY = replace(llama.LLAMA, layout=LAYOUT)
ALIBI = replace(
    ROTARY,
    layers=lambda cfg: [Layer(rotation=None)] * cfg.num_hidden_layers,
    slopes=lambda cfg: torch.tensor(alibi_slopes(cfg.num_attention_heads)),
)


def layout(config: dict, store: Store) -> Layout:
    """That of every checkpoint of the family."""
    return LAYOUT


def alibi_slopes(n_heads: int) -> list[float]:
    """Powers of 2^(-8/n) for n heads, n a power of two; else those of the power below, then every other one of the power above."""
    below = 1 << (n_heads.bit_length() - 1)
    slopes = [2.0 ** (-8 * i / below) for i in range(1, below + 1)]
    return slopes + [2.0 ** (-4 * i / below) for i in range(1, 2 * (n_heads - below), 2)]


def build(config: dict, store: Store, name: str) -> DecoderModel:
    """A model from the contents of config.json and its checkpoint. Raises StrataError by name of what differs."""
    alibi, v2 = _has_alibi(config, store, name), _is_second(config, name)
    same = {"model_type": "llama", "num_key_value_heads": config.get("num_attention_heads")}
    if "max_position_embeddings" not in config:
        same["max_position_embeddings"] = config.get("model_max_length", 4096)
    table = ALIBI if alibi else ROTARY
    cfg = configuration(config | same, name, len(store.shapes))
    if cfg.rope_parameters != ROTATION:
        raise StrataError(f"{name}: config.json says how positions rotate ({cfg.rope_parameters}), which Baichuan fixes: take its own")
    variant = ("baichuan2" if v2 else "baichuan") + ("-13b" if alibi else "-7b")
    model = assemble(table, cfg, store, ("baichuan", variant, name))
    if v2:  # the published head does this at its first forward, and overwrites its own weight
        head = model.weights.get("unembed", model.weights["embed"])
        model.weights["unembed"] = F.normalize(head.float(), dim=-1).to(head.dtype)
    return model


def _has_alibi(config: dict, store: Store, name: str) -> bool:
    """Whether it is of the 13B kind, which nothing names.

    The width of published models decides. Of others 7B ones have max_position_embeddings, the first class's name, or the
    frequencies among the weights, and 13B ones model_max_length alone, as published.
    """
    if (width := config.get("hidden_size")) in PUBLISHED:
        return PUBLISHED[width]
    if "max_position_embeddings" in config or FIRST in _classes(config) or any(k.endswith("rotary_emb.inv_freq") for k in store.shapes):
        return False
    if "model_max_length" in config:
        return True
    raise StrataError(
        f"{name} may be of Baichuan's 7B kind or of its 13B kind, which has no rotation: add max_position_embeddings to config.json if it "
        "is of the first, model_max_length if it is of the second"
    )


def _is_second(config: dict, name: str) -> bool:
    """Whether it is Baichuan 2, whose head has rows of length one. Weights do not say it: both have the same keys and shapes."""
    said, vocabulary = config.get("norm_head"), config.get("vocab_size")
    if "norm_head" in config:
        if not isinstance(said, bool):
            raise StrataError(f"{name}: config.json says norm_head {said!r}, expected true (Baichuan 2) or false (Baichuan 1)")
        return said
    if "z_loss_weight" in config or vocabulary == 125696:
        return True
    if vocabulary == 64000 or FIRST in _classes(config):
        return False
    raise StrataError(
        f"{name} may be Baichuan 1 or 2: its vocab_size {vocabulary!r} is neither 64000 nor 125696, and config.json has no z_loss_weight: "
        "add norm_head to it, true for Baichuan 2 and false for Baichuan 1"
    )


def _classes(config: dict) -> list:
    named = config.get("architectures")
    return named if isinstance(named, list) else []
