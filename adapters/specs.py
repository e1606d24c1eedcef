"""Plain data about a model: shapes and costs of its blocks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSpec:
    """Shape and cost of one block. `n_heads` None: the architecture has no heads, and head tools refuse."""

    n_heads: int | None
    n_kv_heads: int | None
    head_dim: int | None
    d_ffn: int
    n_params: int
    flops_per_token: int  # two per weight of a matrix product; what grows with the context is left out
    mixer_params: int = 0  # the mixer's share of n_params and of flops_per_token, its norm included
    mixer_flops: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Plain data about a model, written into every result."""

    family: str
    variant: str
    name: str
    d_model: int
    vocab_size: int
    max_len: int
    blocks: tuple[BlockSpec, ...]
    n_params: int  # all parameters, tied ones counted once
    source_hash: str = ""  # of the weights' keys, shapes and bytes
    quantised: str = ""  # how the file holds its weights: bits, groups, format; empty: as floats

    @property
    def has_heads(self) -> bool:
        return all(block.n_heads is not None for block in self.blocks)

    @property
    def block_params(self) -> int:
        """Parameters of all blocks: no embeddings, final norm or head."""
        return sum(block.n_params for block in self.blocks)

    @property
    def unembed_flops(self) -> int:
        """Of the head for one token, as in `flops_per_token`."""
        return 2 * self.d_model * self.vocab_size

    @property
    def flops_per_token(self) -> int:
        """Of all blocks and the head: two for each weight of a matrix product; what grows with the context is left out."""
        return sum(block.flops_per_token for block in self.blocks) + self.unembed_flops
