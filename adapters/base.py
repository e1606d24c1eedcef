"""The contract: a model is embeddings, a list of residual blocks and a head, run by one explicit loop.

With blocks as values every analysis is a few lines and the same for all architectures. Notation in comments:
D documents, V variants of the stream (rows are variant-major, V * D of them), T time, d = d_model.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from adapters.ablation import NONE, Ablation
from adapters.action import Action
from adapters.block import Block, BlockPast, Context, MixerOutput, Parts
from adapters.checkpoints.layout import Layout
from adapters.checkpoints.lineage import Ancestor
from adapters.errors import StrataError
from adapters.experts import Out, experts_of, feed
from adapters.means import NO_MEANS, Means
from adapters.products import MIXED, NARROW
from adapters.specs import ModelSpec
from adapters.tokenizers import Tokenizer

if TYPE_CHECKING:
    from adapters.checkpoints.streamed import WeightReader


Item = TypeVar("Item")
Edge = tuple[int, Action]  # (variant of x, what the block does to it)
Tap = Callable[[int, Parts], None]


class Advance(NamedTuple):
    """`x` has one variant per edge; `parts` is there when the call had a single edge."""

    x: Tensor
    parts: Parts | None
    past: BlockPast


class BlockModel(ABC):
    """A language model as a list of blocks.

    No hooks, no in-place writes and no `no_grad` in here: gradients flow, and callers own inference mode.
    """

    spec: ModelSpec
    blocks: Sequence[Block]
    weights: dict[str, Tensor]  # by role: embeddings, final norm, head
    tokenizer: Tokenizer | None
    layout: Layout | None = None  # of its checkpoint, where it has one
    means: Sequence[Means] = ()  # of each block, where ablations to means are asked for
    end_tokens: tuple[int, ...] = ()  # tokens that end a text that the model writes
    alters: tuple[str, ...] = ()  # settings of its files that change even the likeliest text
    mixed: bool = False  # products with the matrices of blocks are narrower than `dtype` (`adapters.products`)
    origin: tuple[str, str | None] | None = None  # what `load` was given, and the revision; None: these are not the blocks of any files
    ancestors: tuple[Ancestor, ...] = ()  # models that its files were pruned from, nearest first
    reader: WeightReader | None = None  # of weights that are read whenever they are used; None: they are held
    stand_in_for: str = ""  # a type of device: this has shapes alone, and reads what a model there has scored

    @abstractmethod
    def begin(self, ids: Tensor, *, lengths: Tensor | None = None, start: Tensor | None = None) -> tuple[Tensor, Context]:
        """Embeds `ids` (D, T), right-padded when `lengths` (D,) says so; `start` (D,) tokens came before them.

        Raises StrataError on lengths that do not fit, left padding among them (`right_padded`).
        """

    @abstractmethod
    def norm(self, x: Tensor) -> Tensor:
        """The final norm: (..., d) -> (..., d)."""

    def unembed(self, h: Tensor, tokens: slice | Tensor = slice(None)) -> Tensor:
        """Logits of `tokens` of the vocabulary, all of them by default: (..., d) behind the final norm -> (..., tokens)."""
        return F.linear(h, self.weights.get("unembed", self.weights["embed"])[tokens])

    def logits(self, x: Tensor) -> Tensor:
        """Final norm and head: (..., d) -> (..., vocab_size)."""
        return self.unembed(self.norm(x))

    def advance(self, i: int, x: Tensor, ctx: Context, edges: Sequence[Edge], past: BlockPast | None = None) -> Advance:
        """Block `i` on `x` (V*D, T, d): one variant out for each edge, in the edges' order.

        The mixer runs once on the distinct variants that need it, the ffn once on the distinct pairs of variant and
        mixer action, or on the variants where it runs in parallel with the mixer; for experts that are out it runs again on the
        tokens that had been sent to them (`experts.feed`). The only place that adds to the residual.
        `past` comes from a call with the same edges.
        """
        block, spec = self.blocks[i], self.blocks[i].spec
        before, means = past or BlockPast(None, None), self._means(i, edges)
        edges = [(v, spec.canonical(action)) for v, action in edges]
        middles = [(v, action.before_ffn) for v, action in edges]  # what each edge has behind the mixer
        reads = [(v, spec.read_by_ffn(action)) for v, action in edges]  # what the ffn of each edge sees
        mixing = _distinct(v for v, action in edges if action.mixer)
        asked = _distinct((r, action.experts) for r, (_, action) in zip(reads, edges, strict=True) if action.ffn)
        feeding = _distinct(r for r, _ in asked)

        xs = x.unflatten(0, (-1, ctx.documents))  # (V, D, T, d)
        mixed = block.mix(_rows(xs, mixing), ctx, before.mixer) if mixing else None
        running = [(v, a) for v, a in _distinct(middles) if a.mixer]
        mix_deltas = {(v, a): _mixer_delta(block, mixed, mixing.index(v), ctx, a, means) for v, a in running if mixed}
        mix_deltas |= {(v, a): left for v, a in middles if (left := means.left("mixer", a, xs[v])) is not None}
        mids = {m: xs[m[0]] + mix_deltas[m] if m in mix_deltas else xs[m[0]] for m in middles}
        read = [xs[r[0]] if spec.parallel else mids[r] for r in feeding]
        fed, ffn_past = _fed(block, read, [(feeding.index(r), out) for r, out in asked], ctx, before.ffn)
        fed_deltas = dict(zip(asked, fed, strict=True))
        ffn_deltas = [fed_deltas[r, a.experts] if a.ffn else means.left("ffn", a, xs[v]) for r, (v, a) in zip(reads, edges, strict=True)]
        outs = [mids[m] if delta is None else mids[m] + delta for m, delta in zip(middles, ffn_deltas, strict=True)]
        parts = None
        if len(edges) == 1:
            (m,), (delta,), zero = middles, ffn_deltas, torch.zeros_like(x)
            z, open = (mixed.z, mixed.delta) if mixed else (None, None)
            parts = Parts(x, mix_deltas.get(m, zero), mids[m], zero if delta is None else delta, outs[0], z, open)
        return Advance(torch.cat(outs), parts, BlockPast(mixed.past if mixed else None, ffn_past))

    def stream(self, ids: Tensor, ablation: Ablation = NONE, *, lengths: Tensor | None = None, tap: Tap | None = None) -> Tensor:
        """The stream behind the last block (D, T, d), before any final norm; `tap(i, parts)` sees every block.

        Raises StrataError when the ablation names a block or a head that the model does not have.
        """
        x, ctx = self.begin(ids, lengths=lengths)
        for i, action in enumerate(ablation.actions(self.spec)):
            step = self.advance(i, x, ctx, [(0, action)])
            if tap is not None and step.parts is not None:
                tap(i, step.parts)
            x = step.x
            del step  # else its parts would live on while the next block runs
        return x

    def run(self, ids: Tensor, ablation: Ablation = NONE, *, lengths: Tensor | None = None, tap: Tap | None = None) -> Tensor:
        """Logits (D, T, vocab_size) of the ablated model. Raises StrataError as `stream` does."""
        return self.logits(self.stream(ids, ablation, lengths=lengths, tap=tap))

    def with_blocks(self, blocks: Sequence[Block]) -> BlockModel:
        """The same model with other blocks: deletion, reordering, replacement. Weights are shared, not copied; means go."""
        other = copy.copy(self)
        other.means, other.origin, other.ancestors = (), None, ()
        removed = sum(b.spec.n_params for b in self.blocks) - sum(b.spec.n_params for b in blocks)
        other.blocks = list(blocks)
        other.spec = replace(self.spec, blocks=tuple(b.spec for b in blocks), n_params=self.spec.n_params - removed, kept=())
        return other

    def _means(self, i: int, edges: Sequence[Edge]) -> Means:
        """What parts of block `i` leave behind. Raises StrataError when an edge asks for means and none were taken."""
        if not self.means and any(action.edit == "mean" for _, action in edges):
            raise StrataError(f"{self.spec.name} holds no means to leave behind: mean ablation takes calibration text")
        return self.means[i] if self.means else NO_MEANS

    @property
    def device(self) -> torch.device:
        return self.weights["embed"].device

    @property
    def dtype(self) -> torch.dtype:
        """Of the stream."""
        return self.weights["embed"].dtype

    @property
    def stream_dtype(self) -> torch.dtype:
        """Of the stream between blocks."""
        return self.dtype

    @property
    def precision(self) -> str:
        """In what it computes, as `load` is told it."""
        return MIXED if self.mixed else str(self.dtype).removeprefix("torch.")

    @property
    def computed_in(self) -> str:
        """The same in words, and where."""
        narrow = f" with products in {str(NARROW).removeprefix('torch.')}" if self.mixed else ""
        return f"{str(self.dtype).removeprefix('torch.')}{narrow} on {self.device.type}"


def _distinct(items: Iterable[Item]) -> list[Item]:
    return list(dict.fromkeys(items))


def _rows(xs: Tensor, variants: list[int]) -> Tensor:
    """Rows (len(variants)*D, T, d) of the given variants of xs (V, D, T, d); a view when they are consecutive."""
    first, n = variants[0], len(variants)
    consecutive = variants == list(range(first, first + n))
    return (xs[first : first + n] if consecutive else xs[variants]).flatten(0, 1)


def _fed(block: Block, read: Sequence[Tensor], asked: Sequence[tuple[int, Out]], ctx: Context, past: Any) -> tuple[list[Tensor], Any]:
    """What the ffn adds to streams (D, T, d), by number of `read`, without some experts; and its past."""
    if not read:
        return [], None
    if not any(out for _, out in asked):
        fed, past = block.ffn(torch.cat(list(read)), ctx, past)
        return list(fed.unflatten(0, (-1, ctx.documents))), past
    found, past = feed(experts_of(block), read, asked, ctx, past)
    return [found[each] for each in asked], past


def _mixer_delta(block: Block, mixed: MixerOutput, row: int, ctx: Context, action: Action, means: Means) -> Tensor:
    """What a mixer that runs adds to one variant (D, T, d): the share of heads that are out, or what differs from their means, goes."""
    delta = mixed.delta.unflatten(0, (-1, ctx.documents))[row]
    if not action.heads:
        return block.close(delta)
    if mixed.z is None:
        raise StrataError("this architecture has no heads: ablate its blocks, mixers or ffns instead")
    out = sorted(action.heads)
    z = mixed.z.unflatten(0, (-1, ctx.documents))[row][..., out, :]
    return block.close(delta - block.project(z - means.z[out] if action.edit == "mean" and means.z is not None else z, out))
