"""Plain data about a model: shapes and costs of its blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from adapters.action import KEEP, Action


class Scan(NamedTuple):
    """The recurrence of a state-space mixer, whose states take more memory than a stream."""

    channels: int
    state: int  # size, of each channel
    heads: int  # of channels with the same decays; 0: every number of a state has its own


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSpec:
    """Shape and cost of one block. `n_heads` None: it has no heads, and head tools pass it over, or refuse.

    A block has at most one mixer and one ffn. The ffn reads what the mixer leaves or, where the two are `parallel`, what
    enters the block.
    """

    n_heads: int | None
    n_kv_heads: int | None
    head_dim: int | None
    d_ffn: int
    n_params: int
    flops_per_token: int  # two per weight of a matrix product that a token meets; not what grows with the context, or is done with states
    mixer_params: int = 0  # the mixer's share of n_params and of flops_per_token, its norm included
    mixer_flops: int = 0
    has_mixer: bool = True
    has_ffn: bool = True
    parallel: bool = False
    n_experts: int = 0  # that tokens are sent to; 0: the ffn has none
    experts_per_token: int = 0
    d_expert: int = 0  # inner width of one of them, as `d_ffn` is of an MLP that all tokens go through
    expert_params: int = 0  # of one of them, all in matrices
    shared_expert: bool = False  # all tokens go through an MLP beside them
    affine_heads: bool = True  # what a head adds to the stream is a linear function of its z: no norm behind them
    scan: Scan | None = None

    def canonical(self, action: Action) -> Action:
        """The same action, in which a part that the block lacks is out."""
        if self.has_mixer and self.has_ffn:
            return action
        mixer = action.mixer and self.has_mixer
        return action._replace(mixer=mixer, heads=action.heads if mixer else frozenset(), ffn=action.ffn and self.has_ffn)

    @property
    def active_params(self) -> int:
        """Parameters that a token meets: of the experts those that it is sent to."""
        return self.n_params - (self.n_experts - self.experts_per_token) * self.expert_params

    def read_by_ffn(self, action: Action) -> Action:
        """What of an action changes the ffn's input: it runs once on a stream for all actions of which this is equal."""
        return KEEP if self.parallel else action.before_ffn


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
    kept: tuple[int, ...] = ()  # of a pruned model the number that each block had in the one that it was first pruned from
    quantised: str = ""  # how the file holds its weights: bits, groups, format; empty: as floats

    @property
    def architecture(self) -> str:
        """What readers call models whose mixers are like these."""
        return {"rwkv": "RWKV", "mamba": "Mamba", "jamba": "hybrid"}.get(self.family, "Transformer")

    @property
    def has_heads(self) -> bool:
        """In some of its blocks at least."""
        return any(block.n_heads for block in self.blocks)

    @property
    def has_experts(self) -> bool:
        return any(block.n_experts for block in self.blocks)

    @property
    def active_params(self) -> int:
        """Parameters that a token meets: all of them where there are no experts."""
        return self.n_params - sum(block.n_params - block.active_params for block in self.blocks)

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
        """Of all blocks and the head, as in theirs: what grows with the context is left out."""
        return sum(block.flops_per_token for block in self.blocks) + self.unembed_flops
