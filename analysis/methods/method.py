"""What a pruning method is: a function from a model and calibration text to a smaller model, told how much by one level.

A module for each method ends with its `Method` (`SLICEGPT`, `LLM_PRUNER`, `LACO`, ...); `analysis.methods.table` lists them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from adapters.base import BlockModel
from adapters.errors import StrataError
from adapters.memory import megabytes
from adapters.specs import ModelSpec
from analysis.data.batches import Batch, Text

Found = TypeVar("Found")
Level = float  # what a method is told (a number of blocks, a sparsity, a ratio)
TOLERANCE = 0.015  # of the block parameters
TOKENS = 16  # of calibration text for each dimension of the stream, at least: a linear map fitted to 4 can cost more than none


class UnreachableError(StrataError):
    """A method does not make a model of the size that was asked for: no level comes near it, or it would take too long."""


class Size(NamedTuple):
    """Shares of the dense model that are gone, from the specs; negative where a method adds more than it takes."""

    block_params: float
    params: float  # of all of them: embeddings and head too, tied ones once
    active: float  # of those that a token meets: fewer than all where there are experts
    flops: float  # for each token, the head's among them; what grows with the context is left out


def size(dense: BlockModel, pruned: BlockModel) -> Size:
    """What `pruned` lacks of `dense`. A method keeps its specs true: those of its blocks, `n_params`, and `d_model` at the head."""
    return Size(*(1 - after / before for after, before in zip(_totals(pruned.spec), _totals(dense.spec), strict=True)))


def _totals(spec: ModelSpec) -> tuple[int, int, int, int]:
    return spec.block_params, spec.n_params, spec.active_params, spec.flops_per_token


@dataclass(frozen=True)
class Method:
    """`prune(model, batches, level)` gives a new model, with shared or new weights, and leaves `model` as it is.

    `levels(model)` are the candidates, ascending: a larger one takes out more. `count(model, level)` is the size that `prune`
    gives, or nearly (blocks that differ are counted as alike), from shapes alone: no calibration, no copy of a weight.
    `note(model, batches, level)` says in words what `prune` chose by itself on the way.
    """

    title: str
    source: str  # arXiv id
    prune: Callable[[BlockModel, Sequence[Batch], Level], BlockModel]
    levels: Callable[[BlockModel], Sequence[Level]]
    count: Callable[[BlockModel, Level], Size]
    stock: bool  # can stock loaders hold the result?
    floats: bool = True  # does it compute with weights? Whole blocks can also go from quantised models
    note: Callable[[BlockModel, Sequence[Batch], Level], str] = lambda model, batches, level: ""
    lacks: Callable[[BlockModel], str] = lambda model: ""  # what a model does not have and the method needs, in words
    about: Mapping[str, object] = field(default_factory=dict)  # what else runs of it must agree in to be compared


def without_last(model: BlockModel, level: Level) -> Size:
    """What `level` of its blocks are of a model: the `count` of methods that take out whole blocks."""
    return size(model, model.with_blocks(model.blocks[: len(model.blocks) - int(level)]))


class Remembered(Generic[Found]):
    """The last result of a function of a model, its calibration text and more, so that one method's levels share it."""

    def __init__(self, function: Callable[..., Found]) -> None:
        self.function, self.last = function, list[tuple[BlockModel, Sequence[Batch], tuple[object, ...], Found]]()

    def __call__(self, model: BlockModel, batches: Sequence[Batch], *more: object) -> Found:
        if not self.last or self.last[0][0] is not model or self.last[0][1] is not batches or self.last[0][2] != more:
            self.last = [(model, batches, more, self.function(model, batches, *more))]
        return self.last[0][3]


def first_documents(batches: Sequence[Batch], documents: int) -> list[Batch]:
    """The first documents of `batches`, as many as asked for or there are."""
    few = []
    for batch in batches:
        n = min(documents, len(batch.ids))
        documents -= n
        if n:
            few.append(Batch._make(None if part is None else part[:n] for part in batch))
    return few


class Solved(NamedTuple):
    """A level, what it gives, and how much of the model is gone then."""

    level: Level
    model: BlockModel
    size: Size
    note: str  # of the method, about what it chose by itself


def calibration_for(model: BlockModel, text: Text) -> Text:
    """Calibration text of the corpus of `text`, held-out: as many documents, or more where the stream is wide.

    Raises StrataError as `Text.windows` does.
    """
    enough = -(-TOKENS * model.spec.d_model // text.window)
    return text.calibration(model, max(text.documents, enough))


def require(method: Method, model: BlockModel) -> None:
    """Raises StrataError when the model lacks what `method` needs, or has quantised or streamed weights where it computes with them."""
    spec = model.spec
    if method.floats and model.reader is not None:
        needed = megabytes(spec.n_params * model.dtype.itemsize)
        raise StrataError(
            f"{method.title} makes new weights, and those of {spec.name} are streamed from its files: give `weights` resident, on a "
            f"machine with more than {needed} of memory"
        )
    if what := method.lacks(model):
        raise StrataError(f"{method.title} cannot prune {spec.name} ({spec.family}): it takes {what}; use another method")
    if method.floats and spec.quantised:
        raise StrataError(
            f"{method.title} computes with float weights, and those of {spec.name} are quantised ({spec.quantised}): prune the model that "
            "it was made from, and quantise the result"
        )


def nearest(method: Method, model: BlockModel, target: float) -> list[tuple[Level, Size]]:
    """The candidates on both sides of `target`, a share of the block parameters: two, or one at an end; the nearest first."""
    levels = method.levels(model)
    above = bisect_left(levels, target, key=lambda level: method.count(model, level).block_params)
    found = [(level, method.count(model, level)) for level in levels[max(above - 1, 0) : above + 1]]
    return sorted(found, key=lambda pair: abs(pair[1].block_params - target))


def solve(method: Method, model: BlockModel, batches: Sequence[Batch], target: float, tolerance: float = TOLERANCE) -> Solved:
    """The model with about `target` of its block parameters gone, by the level that comes nearest.

    `target` and `tolerance` are shares of the block parameters. Raises StrataError on a model that the method cannot prune, and
    UnreachableError, naming the nearest sizes, when none is within `tolerance`, counted from shapes and measured from the result.
    """
    require(method, model)
    if not 0 < target < 1:
        raise StrataError(f"a target of {target:g} is not a share of the block parameters: give one between 0 and 1, for example 0.25")
    near = nearest(method, model, target)
    if not near:
        raise UnreachableError(
            f"{method.title} removes nothing from {model.spec.name}, which has {len(model.blocks)} blocks: use a deeper model"
        )
    level, _ = near[0]
    _within(method, model, target, tolerance, near)
    pruned = method.prune(model, batches, level)
    measured = size(model, pruned)
    _within(method, model, target, tolerance, [(level, measured)])  # blocks that differ were counted as alike
    return Solved(level, pruned, measured, method.note(model, batches, level))


def _within(method: Method, model: BlockModel, target: float, tolerance: float, near: Sequence[tuple[Level, Size]]) -> None:
    """Raises UnreachableError when the first of `near`, which it names, is not within `tolerance` of `target`."""
    if abs(near[0][1].block_params - target) <= tolerance:
        return
    said = " and ".join(f"{100 * s.block_params:.1f} % (level {k:g})" for k, s in sorted(near))
    raise UnreachableError(
        f"{method.title} does not come within {100 * tolerance:g} % of {100 * target:g} % of the block parameters of "
        f"{model.spec.name}: the nearest that it reaches {'are' if len(near) > 1 else 'is'} {said}"
    )
