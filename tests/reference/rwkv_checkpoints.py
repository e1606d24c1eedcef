"""Random RWKV checkpoints in BlinkDL's native layout, and the same weights under the Hugging Face keys."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

VERSIONS = ("4", "5.0", "5.1", "5.2", "6", "7")
_HF_ATT = {"time_mix_k": "time_mix_key", "time_mix_v": "time_mix_value", "time_mix_r": "time_mix_receptance"}
_FLA_ATT = {"receptance": "r_proj", "key": "k_proj", "value": "v_proj", "output": "o_proj", "ln_x": "g_norm"}
_FLA_BLOCK = {"ln0": "pre_norm", "ln1": "attn_norm", "ln2": "ffn_norm", "att": "attn", "ffn": "ffn"}
_FLA_LOW_RANK = {"0": "2.bias", "1": "0.weight", "2": "2.weight"}


def random_checkpoint(
    version: str,
    *,
    blocks: int = 2,
    heads: int = 2,
    head_size: int = 16,
    d_ffn: int | None = None,
    vocab: int = 61,
    rank: int = 8,
    ranks: Mapping[str, int] | None = None,
    decay: tuple[float, float] = (-6.0, 1.0),
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, Tensor]:
    """Every key as the published checkpoints have it; nothing is near zero or one, so that no term can hide.

    `rank` is the inner size of low-rank matrices, and `ranks` that of RWKV-7's by letter. `decay` is the range of
    time_decay (log of minus the log of the decay) in versions 4 to 6.
    """
    generator = torch.Generator(device).manual_seed(seed) if device != "meta" else None
    d = heads * head_size

    def normal(*shape: int, std: float = 1.0, mean: float = 0.0) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device) * std + mean

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(*shape, generator=generator, device=device) * (high - low) + low

    def linear(out: int, into: int) -> Tensor:
        return normal(out, into, std=into**-0.5)

    def norm(name: str) -> dict[str, Tensor]:
        return {name + ".weight": normal(d, std=0.3, mean=1.0), name + ".bias": normal(d, std=0.3)}

    def low_rank(name: str, inner: int = rank) -> dict[str, Tensor]:
        return {name + "1": normal(d, inner, std=d**-0.5), name + "2": normal(inner, d, std=inner**-0.5)}

    def time_mix(i: int) -> dict[str, Tensor]:
        out = {f"{name}.weight": linear(d, d) for name in ("receptance", "key", "value", "output")}
        if version in ("5.1", "5.2", "6"):
            out["gate.weight"] = linear(d, d)
        if version != "4":
            out |= norm("ln_x")
        if version[0] in "45":
            out |= {f"time_mix_{c}": uniform(1, 1, d) for c in ("kvr" if version in ("4", "5.0") else "kvrg")}
            shape = {"4": (d,), "5.2": (heads, head_size)}.get(version, (heads,))
            out["time_decay"] = uniform(*shape, low=decay[0], high=decay[1])
            out["time_first" if version in ("4", "5.0") else "time_faaaa"] = uniform(*shape, low=-1.0)
        if version == "6":
            out |= {f"time_maa_{c}": uniform(1, 1, d) for c in "xwkvrg"}
            out |= {"time_maa_w1": normal(d, 5 * rank, std=d**-0.5), "time_maa_w2": normal(5, rank, d, std=0.3)}
            out |= {"time_decay": uniform(1, 1, d, low=decay[0], high=decay[1]), **low_rank("time_decay_w", 2 * rank)}
            out["time_faaaa"] = uniform(heads, head_size, low=-1.0)
        if version == "7":
            out |= {f"x_{c}": uniform(1, 1, d) for c in "rwkvag"}
            out |= {f"{c}0": normal(1, 1, d) for c in "wav"} | {"k_k": normal(1, 1, d, mean=0.8), "k_a": uniform(1, 1, d)}
            for name, inner in ({"w": rank, "a": rank, "v": rank, "g": 2 * rank} | dict(ranks or {})).items():
                out |= low_rank(name, inner)
            out |= {"r_k": normal(heads, head_size, std=0.3)}
            if i == 0:  # used by no implementation; in some published files
                out = {key: t for key, t in out.items() if key not in ("v0", "v1", "v2")}
        return out

    def channel_mix() -> dict[str, Tensor]:
        inner = d_ffn or (4 * d if version in ("4", "7") else 3 * d)
        out = {"key.weight": linear(inner, d), "value.weight": linear(d, inner)}
        if version == "7":
            return out | {"x_k": uniform(1, 1, d)}
        name = "time_maa_" if version == "6" else "time_mix_"
        return out | {"receptance.weight": linear(d, d), f"{name}k": uniform(1, 1, d), f"{name}r": uniform(1, 1, d)}

    weights = {"emb.weight": normal(vocab, d)}
    for i in range(blocks):
        parts = {**(norm("ln0") if i == 0 else {}), **norm("ln1"), **norm("ln2")}
        parts |= {f"att.{key}": t for key, t in time_mix(i).items()} | {f"ffn.{key}": t for key, t in channel_mix().items()}
        weights |= {f"blocks.{i}.{key}": t for key, t in parts.items()}
    return weights | norm("ln_out") | {"head.weight": linear(vocab, d)}


def hugging_face_4(native: dict[str, Tensor]) -> dict[str, Tensor]:
    """The keys of transformers' RwkvForCausalLM, as its conversion script renames them."""
    replaced = {"emb.": "embeddings.", ".ln0.": ".pre_ln.", ".att.": ".attention.", ".ffn.": ".feed_forward.", **_HF_ATT}
    out = {}
    for key, tensor in native.items():
        name = key
        for old, new in replaced.items():
            name = name.replace(old, new)
        out[name if key == "head.weight" else "rwkv." + name] = tensor
    return out


def flash_linear_attention_7(native: dict[str, Tensor]) -> dict[str, Tensor]:
    """The keys of flash-linear-attention's RWKV7ForCausalLM, as its conversion script renames them."""
    ends = {"emb.weight": "model.embeddings.weight", "head.weight": "lm_head.weight"}
    out = {}
    for key, tensor in native.items():
        parts = key.split(".")
        if parts[0] != "blocks":
            out[ends.get(key, key.replace("ln_out", "model.norm"))] = tensor
            continue
        block, name, rest = parts[1], parts[2], parts[3:]
        if name == "att" and rest[0][0] in "wavg" and rest[0][1:] in _FLA_LOW_RANK:
            tensor = tensor.squeeze() if rest[0][1] == "0" else tensor.t().contiguous()
            rest = [f"{rest[0][0]}_lora.lora.{_FLA_LOW_RANK[rest[0][1]]}"]
        elif name == "att":
            tensor = tensor if rest[0].startswith("x_") else tensor.squeeze()
            rest = [_FLA_ATT.get(rest[0], rest[0]), *rest[1:]]
        elif name == "ffn":
            tensor = tensor.squeeze()
        out[".".join(["model.layers", block, _FLA_BLOCK[name], *rest])] = tensor
    return out
