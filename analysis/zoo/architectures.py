"""The four architectures of the zoo: sizes with equal numbers of parameters, and the weights that training starts from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor

from adapters.base import BlockModel
from adapters.checkpoints.layout import Layout, Store
from adapters.families import baichuan, llama
from adapters.families.rwkv.layouts import FORMATS, Sizes, block_shapes, model_shapes
from adapters.registry import FAMILIES

Weights = dict[str, Tensor]  # by role
Initial = Callable[[Generator], tuple[Weights, list[Weights]]]  # of the model, of each block

VOCAB, BLOCKS, HEADS, D, CONTEXT = 2048, 12, 4, 96, 256


@dataclass(frozen=True, slots=True)
class Architecture:
    title: str
    family: str  # of adapters.registry.FAMILIES
    layout: Layout
    config: Mapping[str, object]  # contents of config.json
    initial: Initial

    def build(self, weights: Weights, blocks: list[Weights], name: str, device: str = "cpu") -> BlockModel:
        """The adapter's model of these weights; it holds copies in fp32."""
        tensors = self.layout.write(weights, blocks)
        store = Store(Path(name), {key: tuple(t.shape) for key, t in tensors.items()}, tensors.__getitem__, torch.device(device))
        return FAMILIES[self.family].adapter.build(dict(self.config), store, name)


def transformer(d_ffn: int, n_kv_heads: int = HEADS) -> Initial:
    """Normal with deviation 0.02, divided by sqrt(2 blocks) for what adds to the stream (GPT-2); norms are one."""
    kv = n_kv_heads * D // HEADS
    shapes = {"q": (D, D), "k": (kv, D), "v": (kv, D), "o": (D, D), "gate": (d_ffn, D), "up": (d_ffn, D), "down": (D, d_ffn)}

    def initial(g: Generator) -> tuple[Weights, list[Weights]]:
        def normal(shape: tuple[int, int], role: str = "") -> Tensor:
            return torch.randn(shape, generator=g) * 0.02 / (math.sqrt(2 * BLOCKS) if role in ("o", "down") else 1)

        weights = {"embed": normal((VOCAB, D)), "norm": torch.ones(D), "unembed": normal((VOCAB, D))}
        norms = ("mixer_norm", "ffn_norm")
        return weights, [
            {**{role: normal(shape, role) for role, shape in shapes.items()}, **{norm: torch.ones(D) for norm in norms}}
            for _ in range(BLOCKS)
        ]

    return initial


def rwkv(version: str, d_ffn: int, **ranks: int) -> Initial:
    """As BlinkDL's training code starts (RWKV-LM, RWKV-v5/src/model.py and RWKV-v7/train_temp, Apache-2.0): curves over
    channels and depth for what mixes and forgets, orthogonal or small matrices, zeros in what adds to the stream."""
    sizes = Sizes(version, BLOCKS, VOCAB, D, d_ffn, HEADS, "bonus", ranks)

    def initial(g: Generator) -> tuple[Weights, list[Weights]]:
        head = _orthogonal((VOCAB, D), 0.5, g)
        starts = {"embed": torch.rand(VOCAB, D, generator=g) * 2e-4 - 1e-4, "unembed": head} | dict.fromkeys(
            ("embed_norm", "norm"), torch.ones(D)
        )
        weights = {role: starts.get(role, torch.zeros(shape)).clone() for role, shape in model_shapes(sizes).items()}
        blocks = []
        for i in range(BLOCKS):
            shapes = block_shapes(sizes, i)
            starts = {"mixer_norm": torch.ones(D), "ffn_norm": torch.ones(D), "head_norm": torch.full((D,), ((1 + i) / BLOCKS) ** 0.7)}
            starts |= _STARTS[version](i, shapes, g)
            blocks.append({role: starts.get(role, torch.zeros(shape)).reshape(shape).clone() for role, shape in shapes.items()})
        return weights, blocks

    return initial


def _eagle(i: int, shapes: Mapping[str, tuple[int, ...]], g: Generator) -> Weights:
    n, depth, share = torch.arange(D), i / (BLOCKS - 1), 1 - i / BLOCKS
    curve = (n / D) ** share
    return {
        **dict.fromkeys(("mix_k", "ffn_mix_k", "ffn_mix_r"), curve),
        "mix_v": curve + 0.3 * depth,
        **dict.fromkeys(("mix_r", "mix_g"), (n / D) ** (0.5 * share)),
        "decay": -6 + 5 * (n / (D - 1)) ** (0.7 + 1.3 * depth),
        "bonus": depth * (1 - n / (D - 1)) + 0.1 * ((n + 1) % 3 - 1),
        **{role: _orthogonal(shapes[role], gain, g) for role, gain in (("r", 1.0), ("k", 0.1), ("v", 1.0), ("g", 0.1), ("up", 1.0))},
    }


def _goose(i: int, shapes: Mapping[str, tuple[int, ...]], g: Generator) -> Weights:
    n, depth, share = torch.arange(D), i / (BLOCKS - 1), 1 - i / BLOCKS
    line, half = n / (D - 1) - 0.5, (D // HEADS - 1) / 2
    zigzag = ((n % (D // HEADS)) - half) / half
    zigzag = zigzag * zigzag.abs()
    mixes = {"r": 0.2, "w": 0.9, "k": 0.7, "v": 0.7, "a": 0.9, "g": 0.2}
    return {
        **{f"mix_{c}": 1 - (n / D) ** (power * share) for c, power in mixes.items()},
        "ffn_mix_k": 1 - (n / D) ** share**4,
        "w0": -5.5 + 6 * (n / (D - 1)) ** (1 + depth**0.3) + 2.5 * zigzag,
        "a0": -0.19 + 0.3 * zigzag + 0.4 * line,
        "v0": 0.73 - 0.4 * line,
        "k_k": 0.71 - 0.1 * line,
        "k_a": torch.full((D,), 1.02),
        "r_k": torch.full((D,), -0.04),
        **{role: _orthogonal(shapes[role], 0.1, g) for role in ("w2", "a2", "v2", "g2") if role in shapes},
        **{role: (torch.rand(shapes[role], generator=g) * 2 - 1) * width / math.sqrt(D) for role, width in _WIDTHS.items()},
    }


_STARTS = {"5.2": _eagle, "7": _goose}
_WIDTHS = {"r": 0.5, "k": 0.05, "v": 0.5, "up": 0.5}


def _orthogonal(shape: tuple[int, ...], gain: float, g: Generator) -> Tensor:
    return torch.nn.init.orthogonal_(torch.empty(shape), gain * max(1.0, math.sqrt(shape[0] / shape[1])), generator=g)


_DECODER = {
    "vocab_size": VOCAB,
    "hidden_size": D,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": HEADS,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": 0,
    "dtype": "float16",
}
_LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_key_value_heads": 2, "intermediate_size": 320}
_BAICHUAN = {"architectures": ["BaichuanForCausalLM"], "model_type": "baichuan", "norm_head": True, "intermediate_size": 288}
_RWKV = {"context_length": CONTEXT, "dtype": "float16"}
_NATIVE = next(f.layouts for f in FORMATS if f.name == "native")

ARCHITECTURES = {
    "llama": Architecture(
        "Llama (rotary positions, grouped queries)",
        "llama",
        llama.LAYOUT,
        _DECODER | _LLAMA | {"max_position_embeddings": CONTEXT},
        transformer(320, n_kv_heads=2),
    ),
    "baichuan": Architecture(
        "Baichuan2-13B layout (ALiBi, fused W_pack, normalised head)",
        "baichuan",
        baichuan.LAYOUT,
        _DECODER | _BAICHUAN | {"model_max_length": CONTEXT},
        transformer(288),
    ),
    "rwkv5": Architecture("RWKV-5.2 (Eagle)", "rwkv", _NATIVE["5.2"], _RWKV, rwkv("5.2", 336)),
    "rwkv7": Architecture("RWKV-7 (Goose)", "rwkv", _NATIVE["7"], _RWKV, rwkv("7", 352, w1=16, a1=16, v1=16, g1=32)),
}
