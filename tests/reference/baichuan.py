"""Baichuan as published, in plain fp64 operations on the published keys; and tiny random checkpoints in that layout."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

SIZES = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 6, "vocab_size": 97}
CONFIG = SIZES | {"model_type": "baichuan", "rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": False}
KINDS = {
    "baichuan-7b": {"max_position_embeddings": 64, "norm_head": False},
    "baichuan2-7b": {"max_position_embeddings": 64, "model_max_length": 64, "norm_head": True},
    "baichuan-13b": {"model_max_length": 64, "norm_head": False},
    "baichuan2-13b": {"model_max_length": 64, "z_loss_weight": 0},
}


def tiny(seed: int = 0, **config: object) -> tuple[dict, dict[str, Tensor]]:
    """config.json and the tensors of a small model; nothing in them is near zero or one."""
    cfg = CONFIG | config
    d, f, vocab = cfg["hidden_size"], cfg["intermediate_size"], cfg["vocab_size"]
    generator = torch.Generator().manual_seed(seed)

    def matrix(rows: int, columns: int, scale: float = 1.5) -> Tensor:
        return scale * columns**-0.5 * torch.randn(rows, columns, generator=generator)

    def norm() -> Tensor:
        return 1 + 0.3 * torch.randn(d, generator=generator)

    tensors = {"model.embed_tokens.weight": matrix(vocab, d, d**0.5), "model.norm.weight": norm(), "lm_head.weight": matrix(vocab, d)}
    tensors["lm_head.weight"] *= torch.linspace(0.5, 2, vocab)[:, None]  # so that a forgotten norm of its rows shows
    for i in range(cfg["num_hidden_layers"]):
        tensors |= {
            f"model.layers.{i}.{key}": tensor
            for key, tensor in {
                "input_layernorm.weight": norm(),
                "post_attention_layernorm.weight": norm(),
                "self_attn.W_pack.weight": matrix(3 * d, d),
                "self_attn.o_proj.weight": matrix(d, d),
                "mlp.gate_proj.weight": matrix(f, d),
                "mlp.up_proj.weight": matrix(f, d),
                "mlp.down_proj.weight": matrix(d, f),
            }.items()
        }
    return cfg, tensors


def save(folder: Path, config: dict, tensors: dict[str, Tensor]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")


def naive(config: dict, tensors: dict[str, Tensor], ids: Tensor, *, alibi: bool, norm_head: bool) -> tuple[Tensor, list[Tensor]]:
    """Logits (D, T, vocab_size), and the streams in front of each block and behind the last one (D, T, d)."""
    w = {key: tensor.double() for key, tensor in tensors.items()}
    n, time = config["num_attention_heads"], ids.shape[1]
    x = w["model.embed_tokens.weight"][ids]
    streams = [x]
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        h = _norm(x, w[layer + "input_layernorm.weight"], config)
        packed = h @ w[layer + "self_attn.W_pack.weight"].T
        q, k, v = packed.unflatten(-1, (3, n, -1)).permute(2, 0, 3, 1, 4)  # (D, n_heads, T, head_dim) each
        if not alibi:
            q, k = _rotate(q), _rotate(k)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if alibi:  # as published: slope times the place of the key, the same for every query
            scores = scores + torch.tensor(slopes(n), dtype=torch.float64)[:, None, None] * torch.arange(time)
        scores = scores.masked_fill(torch.ones(time, time).triu(1).bool(), -math.inf)
        x = x + (scores.softmax(-1) @ v).transpose(1, 2).flatten(-2) @ w[layer + "self_attn.o_proj.weight"].T
        h = _norm(x, w[layer + "post_attention_layernorm.weight"], config)
        gate, up = h @ w[layer + "mlp.gate_proj.weight"].T, h @ w[layer + "mlp.up_proj.weight"].T
        x = x + (gate / (1 + torch.exp(-gate)) * up) @ w[layer + "mlp.down_proj.weight"].T
        streams.append(x)
    head = w["lm_head.weight"]
    if norm_head:
        head = head / head.pow(2).sum(-1, keepdim=True).sqrt()
    return _norm(x, w["model.norm.weight"], config) @ head.T, streams


def slopes(n: int) -> list[float]:
    """As in the code that came with the ALiBi paper."""
    if math.log2(n).is_integer():
        start = 2 ** (-(2 ** -(math.log2(n) - 3)))
        return [start * start**i for i in range(n)]
    closest = 2 ** math.floor(math.log2(n))
    return slopes(closest) + slopes(2 * closest)[0::2][: n - closest]


def _norm(x: Tensor, weight: Tensor, config: dict) -> Tensor:
    return weight * x / (x.pow(2).mean(-1, keepdim=True) + config["rms_norm_eps"]).sqrt()


def _rotate(q: Tensor) -> Tensor:
    """Complex rotation of (number i, number i + half) by position / 10000^(i / half)."""
    half, time = q.shape[-1] // 2, q.shape[-2]
    angle = torch.arange(time).double()[:, None] / 10000 ** (torch.arange(half).double() / half)
    turned = torch.complex(q[..., :half], q[..., half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([turned.real, turned.imag], -1)
