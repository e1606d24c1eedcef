"""Sizes of an RWKV checkpoint, read off its own keys, and the shape that every role then has."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from adapters.checkpoints.layout import Layout, Store
from adapters.errors import StrataError
from adapters.families.rwkv.layouts import MIXES, Shape


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a checkpoint's own keys say about it."""

    version: str
    n_blocks: int
    vocab_size: int
    d_model: int
    d_ffn: int
    n_heads: int | None
    bonus: str  # role of u, which version 5 saves in two ways
    ranks: dict[str, int]  # inner size of low-rank matrices, by role of the first

    @property
    def head_dim(self) -> int | None:
        return self.d_model // self.n_heads if self.n_heads else None


def measure(store: Store, version: str, layout: Layout) -> Sizes:
    """Reads the sizes off the first blocks; `shapes` then holds every block to them."""

    def find(role: str, i: int = 0) -> Shape | None:
        if (slot := layout.block.get(role)) is None:
            return None
        shape = store.shapes.get(slot.key.format(i=i))
        return shape[::-1] if shape and slot.transposed else shape

    def need(shape: Shape | None, key: str, dims: int) -> Shape:
        if shape is None or len(shape) < dims or 0 in shape:
            raise StrataError(f"{store.path} lacks the weight {key}, or its shape is not RWKV-{version}'s: the file is incomplete")
        return shape

    low_rank = {"6": ("mix_w1", "decay_w1"), "7": ("w1", "a1", "g1", "v1")}.get(version, ())
    per_head = {"6": "bonus", "7": "r_k"}.get(version, "decay")
    vocab_size, d_model = need(store.shapes.get(layout.model["embed"].key), layout.model["embed"].key, 2)
    n_blocks = _count(layout.block["o"].key, store.shapes)
    heads = None if version == "4" else need(find(per_head), layout.block[per_head].key.format(i=0), 1)[0]
    ranks = {role: (find(role, 1 if role == "v1" else 0) or (0, 0))[-1] for role in low_rank}
    d_ffn = need(find("up"), layout.block["up"].key.format(i=0), 2)[0]
    if heads and d_model % heads:
        raise StrataError(f"{store.path}: {heads} heads do not divide the width {d_model}; the file is damaged")
    bonus = "log_bonus" if version == "4" or find("log_bonus") else "bonus"
    return Sizes(version, n_blocks, vocab_size, d_model, d_ffn, heads, bonus, ranks)


def model_shapes(s: Sizes) -> dict[str, Shape]:
    vectors = ("embed_norm", "embed_norm_bias", "norm", "norm_bias")
    return {"embed": (s.vocab_size, s.d_model), "unembed": (s.vocab_size, s.d_model)} | dict.fromkeys(vectors, (s.d_model,))


def block_shapes(s: Sizes, i: int) -> dict[str, Shape]:
    """Shape of every role of block `i`; in version 7 the first block has no value residual."""
    d, f = s.d_model, s.d_ffn
    square, vector = (d, d), (d,)
    norms = ("mixer_norm", "ffn_norm") if s.version == "4" else ("mixer_norm", "ffn_norm", "head_norm")
    vectors = [*norms, *(f"{norm}_bias" for norm in norms), *(f"mix_{c}" for c in MIXES[s.version]), "ffn_mix_k"]
    out: dict[str, Shape] = {"up": (f, d), "down": (d, f), **dict.fromkeys("rkvo", square), **dict.fromkeys(vectors, vector)}
    if s.version in ("5.1", "5.2", "6"):
        out["g"] = square
    if s.version != "7":
        out |= {"receptance": square, "ffn_mix_r": vector}
    return out | _STATE[s.version](s, i)


def _low_rank(rank: int, d: int, role: str) -> dict[str, Shape]:
    return {f"{role}1": (d, rank), f"{role}2": (rank, d)}


def _dove(s: Sizes, i: int) -> dict[str, Shape]:
    return {"decay": (s.d_model,), s.bonus: (s.d_model,)}


def _eagle(s: Sizes, i: int) -> dict[str, Shape]:
    shape = _per_head(s) if s.version == "5.2" else _per_head(s)[:1]
    return {"decay": shape, s.bonus: shape}


def _finch(s: Sizes, i: int) -> dict[str, Shape]:
    d, r = s.d_model, s.ranks["mix_w1"] // 5
    return {"decay": (d,), "bonus": _per_head(s), "mix_w1": (d, 5 * r), "mix_w2": (5, r, d), **_low_rank(s.ranks["decay_w1"], d, "decay_w")}


def _goose(s: Sizes, i: int) -> dict[str, Shape]:
    matrices = "wavg" if i else "wag"
    out: dict[str, Shape] = {role: shape for c in matrices for role, shape in _low_rank(s.ranks[f"{c}1"], s.d_model, c).items()}
    out |= dict.fromkeys((*(f"{c}0" for c in matrices if c != "g"), "k_k", "k_a"), (s.d_model,))
    return out | {"r_k": _per_head(s)}


_STATE: dict[str, Callable[[Sizes, int], dict[str, Shape]]] = {
    "4": _dove,
    "5.0": _eagle,
    "5.1": _eagle,
    "5.2": _eagle,
    "6": _finch,
    "7": _goose,
}


def _per_head(s: Sizes) -> tuple[int, int]:
    assert s.n_heads is not None
    return s.n_heads, s.d_model // s.n_heads


def _count(key: str, keys: Iterable[str]) -> int:
    """Blocks of a checkpoint, by how many of its keys are `key`; what index they have is found when the weights are read."""
    pattern = re.compile(re.escape(key).replace(re.escape("{i}"), r"\d+"))
    return sum(pattern.fullmatch(key) is not None for key in keys)
