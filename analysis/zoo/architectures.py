"""The architectures of the zoo: sizes with equal numbers of parameters, and the weights that training starts from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from adapters.base import BlockModel
from adapters.checkpoints.layout import Layout, Store
from adapters.families import baichuan, llama, mamba
from adapters.families.mamba.config import Sizes as MambaSizes
from adapters.families.mamba.config import mixer_shapes
from adapters.families.rwkv.layouts import FORMATS
from adapters.families.rwkv.sizes import Sizes, block_shapes, model_shapes
from adapters.registry import FAMILIES

Weights = dict[str, Tensor]  # by role
Initial = Callable[[Generator], tuple[Weights, list[Weights]]]  # of the model, of each block

VOCAB, HEADS, CONTEXT = 2048, 4, 256
KERNEL = 4  # tokens of convolutions


class Shape(NamedTuple):
    blocks: int
    d: int  # width of the stream
    d_ffn: int  # of a block without an ffn: channels of its mixer


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


def transformer(shape: Shape, n_kv_heads: int = HEADS) -> Initial:
    """Normal with deviation 0.02, divided by sqrt(2 blocks) for what adds to the stream (GPT-2); norms are one."""
    blocks, d, d_ffn = shape
    kv = n_kv_heads * d // HEADS
    shapes = {"q": (d, d), "k": (kv, d), "v": (kv, d), "o": (d, d), "gate": (d_ffn, d), "up": (d_ffn, d), "down": (d, d_ffn)}

    def initial(g: Generator) -> tuple[Weights, list[Weights]]:
        def normal(shape: tuple[int, int], role: str = "") -> Tensor:
            return torch.randn(shape, generator=g) * 0.02 / (math.sqrt(2 * blocks) if role in ("o", "down") else 1)

        weights = {"embed": normal((VOCAB, d)), "norm": torch.ones(d), "unembed": normal((VOCAB, d))}
        norms = ("mixer_norm", "ffn_norm")
        return weights, [
            {**{role: normal(shape, role) for role, shape in shapes.items()}, **{norm: torch.ones(d) for norm in norms}}
            for _ in range(blocks)
        ]

    return initial


def rwkv(version: str, shape: Shape, **ranks: int) -> Initial:
    """As BlinkDL's training code starts (RWKV-LM, RWKV-v5/src/model.py and RWKV-v7/train_temp, Apache-2.0): curves over
    channels and depth for what mixes and forgets, orthogonal or small matrices, zeros in what adds to the stream."""
    n_blocks, d, d_ffn = shape
    sizes = Sizes(version, n_blocks, VOCAB, d, d_ffn, HEADS, "bonus", ranks)

    def initial(g: Generator) -> tuple[Weights, list[Weights]]:
        head = _orthogonal((VOCAB, d), 0.5, g)
        starts = {"embed": torch.rand(VOCAB, d, generator=g) * 2e-4 - 1e-4, "unembed": head} | dict.fromkeys(
            ("embed_norm", "norm"), torch.ones(d)
        )
        weights = {role: starts.get(role, torch.zeros(shape)).clone() for role, shape in model_shapes(sizes).items()}
        blocks = []
        for i in range(n_blocks):
            shapes = block_shapes(sizes, i)
            starts = {"mixer_norm": torch.ones(d), "ffn_norm": torch.ones(d), "head_norm": torch.full((d,), ((1 + i) / n_blocks) ** 0.7)}
            starts |= _STARTS[version](i, shape, shapes, g)
            blocks.append({role: starts.get(role, torch.zeros(shape)).reshape(shape).clone() for role, shape in shapes.items()})
        return weights, blocks

    return initial


def _eagle(i: int, shape: Shape, shapes: Mapping[str, tuple[int, ...]], g: Generator) -> Weights:
    blocks, d, _ = shape
    n, depth, share = torch.arange(d), i / (blocks - 1), 1 - i / blocks
    curve = (n / d) ** share
    return {
        **dict.fromkeys(("mix_k", "ffn_mix_k", "ffn_mix_r"), curve),
        "mix_v": curve + 0.3 * depth,
        **dict.fromkeys(("mix_r", "mix_g"), (n / d) ** (0.5 * share)),
        "decay": -6 + 5 * (n / (d - 1)) ** (0.7 + 1.3 * depth),
        "bonus": depth * (1 - n / (d - 1)) + 0.1 * ((n + 1) % 3 - 1),
        **{role: _orthogonal(shapes[role], gain, g) for role, gain in (("r", 1.0), ("k", 0.1), ("v", 1.0), ("g", 0.1), ("up", 1.0))},
    }


def _goose(i: int, shape: Shape, shapes: Mapping[str, tuple[int, ...]], g: Generator) -> Weights:
    blocks, d, _ = shape
    n, depth, share = torch.arange(d), i / (blocks - 1), 1 - i / blocks
    line, half = n / (d - 1) - 0.5, (d // HEADS - 1) / 2
    zigzag = ((n % (d // HEADS)) - half) / half
    zigzag = zigzag * zigzag.abs()
    mixes = {"r": 0.2, "w": 0.9, "k": 0.7, "v": 0.7, "a": 0.9, "g": 0.2}
    return {
        **{f"mix_{c}": 1 - (n / d) ** (power * share) for c, power in mixes.items()},
        "ffn_mix_k": 1 - (n / d) ** share**4,
        "w0": -5.5 + 6 * (n / (d - 1)) ** (1 + depth**0.3) + 2.5 * zigzag,
        "a0": -0.19 + 0.3 * zigzag + 0.4 * line,
        "v0": 0.73 - 0.4 * line,
        "k_k": 0.71 - 0.1 * line,
        "k_a": torch.full((d,), 1.02),
        "r_k": torch.full((d,), -0.04),
        **{role: _orthogonal(shapes[role], 0.1, g) for role in ("w2", "a2", "v2", "g2") if role in shapes},
        **{role: (torch.rand(shapes[role], generator=g) * 2 - 1) * width / math.sqrt(d) for role, width in _WIDTHS.items()},
    }


def mamba2(shape: Shape, sizes: MambaSizes) -> Initial:
    """As the authors' code starts (state-spaces/mamba, mamba_ssm/modules/mamba2.py and models/mixer_seq_simple.py, Apache-2.0): steps
    from 0.001 to 0.1 and decays from 1 to 16, each head its own, projections as torch's linear modules, what adds to the stream
    divided by sqrt(blocks)."""
    blocks, d, inner = shape
    shapes = {"mixer_norm": (d,), **mixer_shapes(sizes, conv_bias=True, bias=False)}

    def initial(g: Generator) -> tuple[Weights, list[Weights]]:
        def uniform(shape: tuple[int, ...], width: float) -> Tensor:
            return (torch.rand(shape, generator=g) * 2 - 1) * width

        def block() -> Weights:
            steps = torch.exp(torch.rand(HEADS, generator=g) * math.log(0.1 / 0.001) + math.log(0.001))
            starts = {role: uniform(shapes[role], d**-0.5) for role in ("g", "x", "b", "c", "step_in")}
            starts |= {role: uniform(shapes[role], sizes.kernel**-0.5) for role in ("conv", "conv_bias")}
            starts |= {"o": uniform(shapes["o"], (inner * blocks) ** -0.5)}
            starts |= {"step_bias": steps + torch.log(-torch.expm1(-steps)), "decay": torch.log(1 + 15 * torch.rand(HEADS, generator=g))}
            return {role: starts.get(role, torch.ones(shape)) for role, shape in shapes.items()}

        ends = {role: torch.randn((VOCAB, d), generator=g) * 0.02 for role in ("embed", "unembed")}
        return ends | {"norm": torch.ones(d)}, [block() for _ in range(blocks)]

    return initial


_STARTS = {"5.2": _eagle, "7": _goose}
_WIDTHS = {"r": 0.5, "k": 0.05, "v": 0.5, "up": 0.5}


def _orthogonal(shape: tuple[int, ...], gain: float, g: Generator) -> Tensor:
    return torch.nn.init.orthogonal_(torch.empty(shape), gain * max(1.0, math.sqrt(shape[0] / shape[1])), generator=g)


def _decoder(shape: Shape, **more: object) -> dict[str, object]:
    """config.json of a decoder."""
    return {
        "vocab_size": VOCAB,
        "hidden_size": shape.d,
        "num_hidden_layers": shape.blocks,
        "num_attention_heads": HEADS,
        "intermediate_size": shape.d_ffn,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": 0,
        "dtype": "float16",
        **more,
    }


def _llama(shape: Shape, depth: str = "") -> Architecture:
    own = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_key_value_heads": 2, "max_position_embeddings": CONTEXT}
    title = f"Llama{depth} (rotary positions, grouped queries)"
    return Architecture(title, "llama", llama.LAYOUT, _decoder(shape, **own), transformer(shape, n_kv_heads=2))


def _baichuan(shape: Shape) -> Architecture:
    own = {"architectures": ["BaichuanForCausalLM"], "model_type": "baichuan", "norm_head": True, "model_max_length": CONTEXT}
    title = "Baichuan2-13B layout (ALiBi, fused W_pack, normalised head)"
    return Architecture(title, "baichuan", baichuan.LAYOUT, _decoder(shape, **own), transformer(shape))


def _rwkv(version: str, name: str, shape: Shape, depth: str = "", **ranks: int) -> Architecture:
    config = {"context_length": CONTEXT, "dtype": "float16"}
    return Architecture(f"RWKV-{version}{depth} ({name})", "rwkv", _NATIVE[version], config, rwkv(version, shape, **ranks))


def _mamba2(shape: Shape, state: int) -> Architecture:
    """Its blocks are mixers alone, as wide inside as takes their parameters to those of the others. The stream is in the weights' dtype
    in training, as it is there."""
    blocks, d, inner = shape
    config = {
        "architectures": ["Mamba2ForCausalLM"],
        "model_type": "mamba2",
        "vocab_size": VOCAB,
        "hidden_size": d,
        "num_hidden_layers": blocks,
        "expand": inner // d,
        "num_heads": HEADS,
        "head_dim": inner // HEADS,
        "state_size": state,
        "n_groups": 1,
        "conv_kernel": KERNEL,
        "chunk_size": 32,
        "layer_norm_epsilon": 1e-5,
        "residual_in_fp32": False,
        "tie_word_embeddings": False,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": None,
        "dtype": "float16",
    }
    sizes = MambaSizes(VOCAB, d, blocks, inner, state, KERNEL, CONTEXT, HEADS, HEADS)
    return Architecture("Mamba-2 (state-space)", "mamba", mamba.LAYOUTS["mamba2"], config, mamba2(shape, sizes))


_NATIVE = next(f.layouts for f in FORMATS if f.name == "native")
ARCHITECTURES = {  # all with as many parameters, to one percent; the depths of one kind are compared with each other
    "llama": _llama(Shape(12, 96, 320)),
    "baichuan": _baichuan(Shape(12, 96, 288)),
    "rwkv5": _rwkv("5.2", "Eagle", Shape(12, 96, 336)),
    "rwkv7": _rwkv("7", "Goose", Shape(12, 96, 352), w1=16, a1=16, v1=16, g1=32),
    "mamba2": _mamba2(Shape(12, 96, 384), state=36),
    "llama6": _llama(Shape(6, 128, 440), " of 6 blocks"),
    "llama24": _llama(Shape(24, 72, 224), " of 24 blocks"),
    "rwkv5x6": _rwkv("5.2", "Eagle", Shape(6, 128, 472), " of 6 blocks"),
    "rwkv5x24": _rwkv("5.2", "Eagle", Shape(24, 72, 224), " of 24 blocks"),
}
