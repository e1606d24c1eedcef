"""Small blocks of every shape (mixer and ffn in sequence, in parallel, or one alone), and a slow loop that says what they compute."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from adapters import Ablation, BlockModel, ModelSpec, StrataError
from adapters.attention import KeyValuePast, attend
from adapters.block import Context, MixerOutput, right_padded
from adapters.specs import BlockSpec

D, HEADS, HEAD_DIM, D_FFN, VOCAB, MAX_LEN = 12, 3, 4, 20, 31, 64
MIXER: dict[str, tuple[int, ...]] = {"mixer_norm": (D,), **dict.fromkeys("qkvo", (D, D))}
FFN: dict[str, tuple[int, ...]] = {"ffn_norm": (D,), "up": (D_FFN, D), "down": (D, D_FFN)}
MODELS = {  # the shape of each block
    "parallel": ("parallel",) * 3,
    "mixers-alone": ("mixer",) * 3,
    "mixed": ("sequence", "mixer", "parallel", "ffn", "sequence"),
}


@dataclass(frozen=True, slots=True)
class ToyBlock:
    """Attention without positions, and an ffn with GELU; the norms are by root mean square."""

    spec: BlockSpec
    weights: dict[str, Tensor]

    def with_weights(self, weights: dict[str, Tensor]) -> ToyBlock:
        return replace(self, weights=weights)

    def mix(self, x: Tensor, ctx: Context, past: KeyValuePast | None = None) -> MixerOutput:
        h = self._norm(x, "mixer_norm")
        q, k, v = (F.linear(h, self.weights[role]).unflatten(-1, (HEADS, HEAD_DIM)).transpose(1, 2) for role in "qkv")
        out, after = attend(q, k, v, ctx, past)
        z = out.transpose(1, 2)
        return MixerOutput(self.project(z), z, after)

    def project(self, z: Tensor, heads: Sequence[int] | None = None) -> Tensor:
        o = self.weights["o"].unflatten(1, (HEADS, -1))
        return F.linear(z.flatten(-2), (o if heads is None else o[:, list(heads)]).flatten(1))

    def close(self, delta: Tensor) -> Tensor:
        return delta

    def keep_heads(self, kept: Sequence[int]) -> ToyBlock:
        raise StrataError("heads cannot be deleted from a toy")

    def ffn(self, x: Tensor, ctx: Context, past: None = None) -> tuple[Tensor, None]:
        return F.linear(F.gelu(F.linear(self._norm(x, "ffn_norm"), self.weights["up"])), self.weights["down"]), None

    def _norm(self, x: Tensor, role: str) -> Tensor:
        return F.rms_norm(x, (D,), self.weights[role], 1e-5)


class ToyModel(BlockModel):
    def __init__(self, spec: ModelSpec, weights: dict[str, Tensor], blocks: Sequence[ToyBlock]) -> None:
        self.spec, self.weights, self.blocks, self.tokenizer = spec, weights, list(blocks), None

    def begin(self, ids: Tensor, *, lengths: Tensor | None = None, start: Tensor | None = None) -> tuple[Tensor, Context]:
        return F.embedding(ids, self.weights["embed"]), Context(documents=len(ids), lengths=right_padded(ids, lengths))

    def norm(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (D,), self.weights["norm"], 1e-5)


def toy(name: str) -> BlockModel:
    """One of MODELS, with random weights in fp32."""
    generator = torch.Generator().manual_seed(3)

    def random(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
        made = {role: torch.randn(shape, generator=generator) for role, shape in shapes.items()}
        return {role: t * 0.5 if t.dim() > 1 else 1 + 0.3 * t for role, t in made.items()}

    blocks = [
        ToyBlock(block_spec(shape), random(({} if shape == "ffn" else MIXER) | ({} if shape == "mixer" else FFN))) for shape in MODELS[name]
    ]
    weights = random({"embed": (VOCAB, D), "norm": (D,)})
    return ToyModel(model_spec(name), weights, blocks)


def model_spec(name: str) -> ModelSpec:
    blocks = tuple(block_spec(shape) for shape in MODELS[name])
    n_params = sum(block.n_params for block in blocks) + VOCAB * D + D
    return ModelSpec(family="toy", variant=name, name=name, d_model=D, vocab_size=VOCAB, max_len=MAX_LEN, blocks=blocks, n_params=n_params)


def block_spec(shape: str) -> BlockSpec:
    """Of a block that is sequence, parallel, mixer or ffn."""
    mixer, ffn = shape != "ffn", shape != "mixer"
    return BlockSpec(
        n_heads=HEADS if mixer else None,
        n_kv_heads=HEADS if mixer else None,
        head_dim=HEAD_DIM if mixer else None,
        d_ffn=D_FFN if ffn else 0,
        n_params=mixer * (D + 4 * D * D) + ffn * (D + 2 * D * D_FFN),
        flops_per_token=2 * (mixer * 4 * D * D + ffn * 2 * D * D_FFN),
        mixer_params=mixer * (D + 4 * D * D),
        mixer_flops=2 * mixer * 4 * D * D,
        has_mixer=mixer,
        has_ffn=ffn,
        parallel=shape == "parallel",
    )


def naive_logits(model: BlockModel, name: str, ids: Tensor, ablation: Ablation) -> Tensor:
    """Logits of one text (T,) in fp64, a part after the other, as the shapes of `name` say: (T, VOCAB)."""
    x = model.weights["embed"].double()[ids]
    for i, (shape, block) in enumerate(zip(MODELS[name], model.blocks, strict=True)):
        w = {role: t.double() for role, t in block.weights.items()}
        entered = x
        if shape != "ffn" and i not in ablation.blocks | ablation.mixers:
            x = x + _attention(entered, w, {h for b, h in ablation.heads if b == i})
        if shape != "mixer" and i not in ablation.blocks | ablation.ffns:
            h = _norm(entered if shape == "parallel" else x, w["ffn_norm"]) @ w["up"].T
            x = x + (h * 0.5 * (1 + torch.erf(h / math.sqrt(2)))) @ w["down"].T
    return _norm(x, model.weights["norm"].double()) @ model.weights["embed"].double().T


def _attention(x: Tensor, w: dict[str, Tensor], out: set[int]) -> Tensor:
    h, delta = _norm(x, w["mixer_norm"]), torch.zeros_like(x)
    for head in set(range(HEADS)) - out:
        rows = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
        q, k, v = (h @ w[role][rows].T for role in "qkv")
        for t in range(len(x)):
            weights = (q[t] @ k[: t + 1].T / math.sqrt(HEAD_DIM)).softmax(-1)
            delta[t] += w["o"][:, rows] @ (weights @ v[: t + 1])
    return delta


def _norm(x: Tensor, weight: Tensor) -> Tensor:
    return weight * x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
