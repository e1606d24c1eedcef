"""What a block is: a mixer and an ffn on a stream, what they are told of the documents, and what they keep of them.

Notation as in `base.py`: D documents, rows are variant-major, T time, d = d_model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol, Self

from torch import Tensor

from adapters.errors import StrataError
from adapters.specs import BlockSpec


class Past(Protocol):
    """What a later call on the same rows needs. It ends at each row's last real token."""

    def rows(self, index: Tensor) -> Past:
        """The past of rows `index`: parent -> children, prompt -> options, variant -> variants."""
        ...

    def live(self, skip: int) -> Past:
        """For calls of one token a row, which use up the past they are given: without the first `skip` tokens, where it holds them."""
        ...

    def joined(self, others: Sequence[Any]) -> Past:
        """With the rows of `others`, of its kind, behind its own. Those that are not live are all of one length."""
        ...

    def behind(self, beginnings: Any, owner: Tensor) -> Past:
        """Of one that is live, whose rows go on from rows `owner` (rows,) of another past, all of it skipped tokens."""
        ...


class BlockPast(NamedTuple):
    """Past of one block, for the distinct streams that its edges ran the mixer and the ffn on."""

    mixer: Past | None
    ffn: Past | None


class MixerOutput(NamedTuple):
    delta: Tensor  # (rows, T, d), what `Block.close` makes the mixer's share of the stream of
    z: Tensor | None  # (rows, T, n_heads, head_dim) at the INPUT of the output projection; None: no heads
    past: Past | None


class Parts(NamedTuple):
    """What one block did, shown to a tap; (rows, T, d) but z. A part that was skipped, or is not there, has a delta of zero.

    The ffn has read x_mid, or x_in where it runs in parallel with the mixer. `open` is the mixer's delta with all heads in, before
    `Block.close`; None where the mixer did not run.
    """

    x_in: Tensor
    delta_mix: Tensor
    x_mid: Tensor
    delta_ffn: Tensor
    x_out: Tensor
    z: Tensor | None
    open: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What blocks need to know about the documents of a batch; families add to it. One entry per document."""

    PER_DOCUMENT: ClassVar[tuple[str, ...]] = ("lengths",)  # fields (D, ...)

    documents: int
    lengths: Tensor | None = None  # (D,) real tokens of right-padded rows; None: all are real

    def rows(self, index: Tensor) -> Self:
        """That of documents `index`, which `begin` was given the `start` of."""
        parts = {name: getattr(self, name) for name in self.PER_DOCUMENT}
        return replace(self, documents=len(index), **{name: None if t is None else t[index] for name, t in parts.items()})


def right_padded(ids: Tensor, lengths: Tensor | None) -> Tensor | None:
    """`lengths` on the device of `ids`. Raises StrataError unless it holds the number of real tokens of each row (D,)."""
    if lengths is None:
        return None
    if lengths.shape == ids.shape:
        left = (lengths[:, 1:] > lengths[:, :-1]).any(1).nonzero().flatten().tolist()
        found = f"row {left[0]} is padded on the left" if left else "lengths is a mask"
        raise StrataError(f"{found}: only padding on the right is supported, with lengths as the number of real tokens of each row")
    if lengths.shape != ids.shape[:1] or not 0 <= int(lengths.min()) <= int(lengths.max()) <= ids.shape[1]:
        shape = " x ".join(map(str, ids.shape))
        raise StrataError(
            f"lengths {lengths.tolist()} do not fit tokens of the shape {shape}: expected the number of real tokens of each row"
        )
    return lengths.to(ids.device)


class Block(Protocol):
    """One residual layer: a mixer and an ffn, each with its own norms inside. Context and past are its own family's.

    Where the spec says that there is no mixer or no ffn, nothing calls it. One with experts is `experts.HasExperts` too.
    """

    @property
    def spec(self) -> BlockSpec: ...

    @property
    def weights(self) -> dict[str, Tensor]: ...  # by role

    def with_weights(self, weights: dict[str, Tensor]) -> Block:
        """The same block on other weights by role; its spec stays. Raises StrataError when it was changed before (`wrapped.py`)."""
        ...

    def mix(self, x: Tensor, ctx: Any, past: Any = None) -> MixerOutput: ...

    def project(self, z: Tensor, heads: Sequence[int] | None = None) -> Tensor:
        """Linear part of the output projection: delta = project(z) + bias. With `heads`, `z` holds those heads only."""
        ...

    def close(self, delta: Tensor) -> Tensor:
        """What the mixer adds to the stream, of the delta that `mix` gives: a norm behind it, or (`affine_heads`) nothing."""
        ...

    def keep_heads(self, kept: Sequence[int]) -> Block:
        """The block on the weights of these heads, ascending: what it gives is what it gives with all others ablated.

        Raises StrataError when it cannot do without weights of heads that go, and when it was changed before.
        """
        ...

    def ffn(self, x: Tensor, ctx: Any, past: Any = None) -> tuple[Tensor, Past | None]: ...
