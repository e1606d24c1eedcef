"""SliceGPT (Ashkboos et al., arXiv 2401.15024) for models with RMSNorm: a narrower stream, on its principal axes.

RMSNorm without its scale does not mind a rotation of the stream, so that every sub-layer can read it on axes of its own: the
scales go into the matrices that read the norms, the axes into all matrices, and a skip connection becomes the product of the
axes in front of a sub-layer and those behind it. Of the axes, d' are kept: floor((1 - s) d) for a sparsity s, down to a
multiple of 8. They are principal axes of the stream as it comes out of the sub-layers before, when these are sliced already.
What the last block gives is turned and not sliced, nor is the head, which is no longer tied to the embeddings.

Two things that the published code does are not done here. It takes the mean over channels from every embedding, which LayerNorm does
not see and RMSNorm does: without any slice its Llama would be another model already. And its script turns the axes that are kept by
a random rotation at the end, which changes no output in exact arithmetic and adds a seed (its library leaves them as they are).
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adapters.action import Action
from adapters.base import Advance, BlockModel, Edge
from adapters.block import Block, BlockPast, Context, MixerOutput, Past
from adapters.decoder import DecoderBlock, DecoderModel, Ends
from adapters.errors import StrataError
from adapters.norms import rms_norm
from adapters.roles import ROLES, n_numbers, shapes_by_role, spec_of
from adapters.wrapped import WrappedBlock
from analysis.data.batches import Batch
from analysis.engine.tokens import counted
from analysis.methods.decoders import decoder_blocks, shapes
from analysis.methods.method import Level, Method, Size, size

DAMPING = 0.01  # of the mean of the second moment's diagonal, added to the diagonal
ROUND = 8  # d' is a multiple of it
NORMS = {"q": "mixer_norm", "k": "mixer_norm", "v": "mixer_norm", "gate": "ffn_norm", "up": "ffn_norm"}  # that a role reads
MIX, FEED = Action(ffn=False), Action(mixer=False)  # the sub-layers, one by one


@dataclass(eq=False)
class SlicedBlock(WrappedBlock):
    """`block` on the first channels of the stream, all that its matrices read; those behind are zero, before and after it."""

    mixer_skip: Tensor  # (d', d'), in place of the identity
    ffn_skip: Tensor  # (d', d'); (d', d) in the last block
    d_model: int

    def mix(self, x: Tensor, ctx: Any, past: Any = None) -> MixerOutput:
        out = super().mix(self._read(x), ctx, past)
        return out._replace(delta=self._change(x, self.mixer_skip, out.delta))

    def project(self, z: Tensor, heads: Sequence[int] | None = None) -> Tensor:
        return self._widen(super().project(z, heads))

    def ffn(self, x: Tensor, ctx: Any, past: Any = None, without: Tensor | None = None) -> tuple[Tensor, Past | None]:
        delta, past = super().ffn(self._read(x), ctx, past, without)
        return self._change(x, self.ffn_skip, delta), past

    def _read(self, x: Tensor) -> Tensor:
        return x[..., : len(self.mixer_skip)]

    def _change(self, x: Tensor, skip: Tensor, delta: Tensor) -> Tensor:
        """Of the stream (..., d), when it is turned to the axes behind and `delta` (..., d') is added."""
        return self._widen(self._read(x) @ skip + delta) - x

    def _widen(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, self.d_model - x.shape[-1]))


class SlicedModel(BlockModel):
    """A sliced model. Its stream has d channels, of which only the first d' are not zero; all parameters that it needs are counted.

    Its heads can be taken out. Its blocks, mixers and ffns cannot: they turn the stream to the axes that the next one reads.
    """

    def __init__(self, model: DecoderModel, weights: dict[str, Tensor], blocks: Sequence[Block]) -> None:
        self.weights, self.blocks, self.tokenizer = weights, list(blocks), model.tokenizer
        self._reader, self._eps = model.with_blocks([]), model.ends.eps
        self._reader.weights = weights  # it would keep the dense ones alive
        specs = tuple(block.spec for block in blocks)
        n_params = sum(s.n_params for s in specs) + n_numbers(shapes_by_role(weights))
        self.spec = replace(model.spec, blocks=specs, n_params=n_params)

    def begin(self, ids: Tensor, *, lengths: Tensor | None = None, start: Tensor | None = None) -> tuple[Tensor, Context]:
        reader = copy.copy(self._reader)
        reader.weights = self.weights
        x, ctx = reader.begin(ids, lengths=lengths, start=start)
        return F.pad(x, (0, self.spec.d_model - x.shape[-1])), ctx

    def norm(self, x: Tensor) -> Tensor:
        return rms_norm(x, torch.ones((), device=x.device), self._eps)

    def advance(self, i: int, x: Tensor, ctx: Context, edges: Sequence[Edge], past: BlockPast | None = None) -> Advance:
        if not all(action.mixer and action.ffn for _, action in edges):
            raise self._turned(f"block {i} cannot be left out, in whole or in part")
        return super().advance(i, x, ctx, edges, past)

    def with_blocks(self, blocks: Sequence[Block]) -> BlockModel:
        if len(blocks) != len(self.blocks):
            raise self._turned(f"{len(self.blocks)} blocks cannot become {len(blocks)}")
        return super().with_blocks(blocks)

    def _turned(self, what: str) -> StrataError:
        return StrataError(
            f"{self.spec.name} is sliced, and each block turns the stream to other axes: {what}; remove first and slice then"
        )


def width(model: BlockModel, sparsity: float) -> int:
    """Channels d' that are kept. Raises StrataError when it is none, and on more than there are."""
    d = model.spec.d_model
    kept = int((1 - sparsity) * d + 1e-6) // ROUND * ROUND  # the small number is for sparsities made from widths
    if not 0 < kept <= d:
        most = 1 - ROUND / d
        raise StrataError(f"a sparsity of {sparsity:g} leaves {kept} of {d} channels of {model.spec.name}: give one from 0 to {most:g}")
    return kept


def principal_axes(moment: Tensor, what: str, damping: float = DAMPING) -> Tensor:
    """Eigenvectors of the second moment (d, d) of `what`, as columns (d, d), the largest eigenvalue first.

    `damping` times the mean of the diagonal is added to it first. Raises StrataError on a moment that is not finite, and on one
    that is singular all the same.
    """
    d, mean = len(moment), moment.diagonal().mean()
    if not (torch.isfinite(moment).all() and mean > 0):
        raise StrataError(f"the second moment of {what} is not finite, or zero: look for damaged weights, or use a wider dtype")
    eye = torch.eye(d, dtype=moment.dtype, device=moment.device)
    values, vectors = torch.linalg.eigh(moment + damping * mean * eye)
    negligible = d * torch.finfo(moment.dtype).eps * values[-1]
    if values[0] <= negligible:
        rank = int((values > negligible).sum())
        raise StrataError(
            f"the second moment of {what} is singular (rank {rank} of {d}, with {damping:g} of its mean diagonal added): the damping "
            f"that is taken by default, principal_axes(..., damping={DAMPING:g}), fixes it"
        )
    return vectors.flip(1)


@torch.no_grad()
def stream_axes(model: BlockModel, batches: Sequence[Batch], kept: int) -> Iterator[Tensor]:
    """Axes (d, d) in fp64: of the embeddings, then of what comes out of each mixer and each ffn when all before is sliced to `kept`.

    The sub-layers run as they are, on what the slices in front of them leave of the stream. Raises StrataError when `batches` have
    fewer tokens than the stream has channels.
    """
    tokens, d, name = sum(int(batch.lengths.sum()) for batch in batches), model.spec.d_model, model.spec.name
    if tokens < d:
        raise StrataError(
            f"{tokens} calibration tokens do not show {d} axes of the stream of {name}: give {d} at least, better many times that"
        )
    ids = [(batch.ids.to(model.device), batch.lengths.to(model.device)) for batch in batches]
    real = [counted(rows, lengths, True)[..., None] for rows, lengths in ids]
    begun = [model.begin(rows, lengths=lengths) for rows, lengths in ids]
    xs, contexts = [x for x, _ in begun], [ctx for _, ctx in begun]
    sublayers = [(i, action) for i in range(len(model.blocks)) for action in (MIX, FEED)]
    names = ["the embeddings"] + [f"the stream behind the {'mixer' if a.mixer else 'ffn'} of block {i}" for i, a in sublayers]
    for what, step in zip(names, [*sublayers, None], strict=True):
        axes = principal_axes(_moment(xs, real), f"{what} of {name}")
        yield axes
        if step:
            left = axes[:, :kept] @ axes[:, :kept].T
            i, action = step
            xs = [model.advance(i, (x.double() @ left).to(x.dtype), ctx, [(0, action)]).x for x, ctx in zip(xs, contexts, strict=True)]


def _moment(xs: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Sum of x x^T over real tokens (d, d), uncentred, in fp64."""
    rows = (x.double().masked_fill(~mask, 0).flatten(0, 1) for x, mask in zip(xs, real, strict=True))
    return torch.stack([row.T @ row for row in rows]).sum(0)


@torch.no_grad()
def sliced(model: DecoderModel, axes: Iterable[Tensor], kept: int) -> SlicedModel:
    """The model on the first `kept` of the `axes` (d, d), which are as `stream_axes` gives them, one more than sub-layers."""
    steps, blocks = iter(axes), list[Block]()
    before = next(steps)[:, :kept]
    embed, head = model.weights["embed"], model.weights.get("unembed", model.weights["embed"])
    narrow = {"embed": _product(embed, before)}
    for block in decoder_blocks(model, SLICEGPT):
        middle, behind = next(steps)[:, :kept], next(steps)
        if len(blocks) < len(model.blocks) - 1:
            behind = behind[:, :kept]
        blocks.append(_slice(block, before, middle, behind))
        before = behind
    return SlicedModel(model, narrow | {"unembed": _product(head, model.weights["norm"].double()[:, None] * before)}, blocks)


def _slice(block: DecoderBlock, before: Tensor, middle: Tensor, behind: Tensor) -> SlicedBlock:
    """The block on its axes (d, d'): what its mixer reads, what its ffn reads, what comes out."""
    reads = dict.fromkeys("qkv", before) | dict.fromkeys(("gate", "up"), middle)
    writes = dict.fromkeys(("o", "o_bias"), middle) | dict.fromkeys(("down", "down_bias"), behind)
    w, (d, kept) = block.weights, before.shape
    # The norm of d' channels is of their mean square; it becomes that of all d, of which the others are zero.
    wide = torch.tensor((d / kept) ** 0.5, dtype=torch.float64, device=before.device)
    narrow = {role: t for role, t in w.items() if role not in NORMS.values()}
    narrow |= {role: _product(w[role], w[NORMS[role]].double()[:, None] * into) for role, into in reads.items()}
    narrow |= {role: (into.T @ w[role].double()).to(w[role].dtype) for role, into in writes.items() if role in w}
    skips = {"mixer_skip": (before.T @ middle).to(w["o"].dtype), "ffn_skip": (middle.T @ behind).to(w["o"].dtype)}

    spec = spec_of(shapes_by_role(narrow | skips), block.spec.n_heads)
    narrow |= dict.fromkeys(("mixer_norm", "ffn_norm"), wide)
    return SlicedBlock(replace(block, spec=spec, weights=narrow, eps=block.eps * d / kept), **skips, d_model=d)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b in fp64, in the dtype of `a`."""
    return (a.double() @ b).to(a.dtype)


def prune(model: BlockModel, batches: Sequence[Batch], sparsity: Level) -> BlockModel:
    """The model sliced on axes of `batches`. Raises StrataError on other models, and as `width` and `stream_axes` do."""
    decoder_blocks(model, SLICEGPT)
    return _pruned(model, stream_axes(model, batches, width(model, sparsity)), sparsity)


def count(model: BlockModel, sparsity: Level) -> Size:
    """What slicing takes out, from shapes."""
    nothing = torch.empty(model.spec.d_model, model.spec.d_model, dtype=torch.float64, device="meta")
    return size(model, _pruned(shapes(model, SLICEGPT), itertools.repeat(nothing), sparsity))


def _pruned(model: BlockModel, axes: Iterable[Tensor], sparsity: float) -> SlicedModel:
    assert isinstance(model, DecoderModel), "of the families that are known"
    return sliced(model, axes, width(model, sparsity))


def levels(model: BlockModel) -> Sequence[Level]:
    """A sparsity for every width that can be kept, the dense one first."""
    d = model.spec.d_model
    return [1 - kept / d for kept in range(d // ROUND * ROUND, 0, -ROUND)]


def lacks(model: BlockModel) -> str:
    ends = getattr(model, "ends", None)
    plain = not isinstance(ends, Ends) or ends == Ends(norm=rms_norm, eps=ends.eps, limit=ends.limit)
    fits = plain and model.weights.keys() <= {"embed", "norm", "unembed"} and all(map(_fits, model.blocks))
    return "" if fits else "RMSNorm alone, in front of attention and of a gated ffn behind it"


def _fits(block: Block) -> bool:
    roles, spec = block.weights.keys(), block.spec
    norms = {role for role in roles if role in ROLES and ROLES[role].norm}
    one_kind = getattr(block, "norm", rms_norm) is rms_norm and getattr(block, "residual", None) is None
    return one_kind and norms == set(NORMS.values()) and {"q", "gate"} <= roles and not spec.parallel and spec.affine_heads


SLICEGPT = Method("SliceGPT", "2401.15024", prune, levels, count, stock=False, lacks=lacks)
