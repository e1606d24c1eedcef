"""The sweep: many ablations scored on the same tokens in one pass, no mixer or ffn run twice on the same stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from adapters.action import Action
from adapters.base import BlockModel, Edge
from adapters.errors import StrataError
from adapters.families.mamba.blocks import scan_bytes
from adapters.memory import FILLED, default_memory, free, megabytes
from adapters.shortage import too_little
from adapters.specs import BlockSpec
from analysis.engine.pieces import Pieces, pieces_of
from analysis.engine.plan import Plan, Stream
from analysis.engine.text_scores import TextScores, score_bytes, slices


@torch.inference_mode()
def sweep(
    model: BlockModel,
    plan: Plan,
    ids: Tensor,
    lengths: Tensor | None = None,
    *,
    kl: bool = True,
    memory: int | None = None,
    names: Sequence[str] | None = None,
    first: Tensor | None = None,
    progress: Callable[[int], None] = lambda streams: None,
) -> dict[str, Tensor]:
    """Scores every ablation of `plan` on the documents `ids` (D, T), right-padded to `lengths` (D,).

    Returns sums per ablation and document, (A, D) in fp64 on the CPU: `nll` and, if asked for, `kl`, in nats over the
    lengths - 1 scored tokens, or those from `first` (D,) on. `memory` is in bytes. `progress` is told the streams that each
    step has advanced. Raises StrataError when `memory` is too small, when the plan is of another model, and on a stream that is not
    finite, naming block and document (by `names`, else by number).
    """
    require_plan_of(model, plan)
    lengths = torch.full((len(ids),), ids.shape[1]) if lengths is None else lengths
    ids, lengths = ids.to(model.device), lengths.to(model.device)
    limit, pieces = room_for(memory, model, plan, *ids.shape)
    scores = TextScores(model, ids, lengths, len(plan.ablations), kl=kl, first=first, pieces=pieces)
    if kl:
        plan = _with_reference(model, plan, scores, limit)
    Executor(plan, Windows(model, ids, lengths, pieces.tokens), scores, limit, progress).run()
    out = {name: sums.cpu() for name, sums in scores.sums.items()}
    if not all(torch.isfinite(sums).all() for sums in out.values()):
        raise StrataError(where_not_finite(model, plan, ids, lengths, torch.stack(list(out.values())).sum(0), names))
    return out


def require_plan_of(model: BlockModel, plan: Plan) -> None:
    """Raises StrataError when the plan names what the model does not have, or leaves blocks out: it was made for another one."""
    if (n := len(plan.spec.blocks)) != len(model.blocks):
        raise StrataError(
            f"the plan is of {plan.spec.name} with {n} blocks, {model.spec.name} has {len(model.blocks)}: plan(model.spec, ...)"
        )
    for ablation in plan.ablations:
        ablation.check(model.spec)


def _with_reference(model: BlockModel, plan: Plan, scores: TextScores, limit: int) -> Plan:
    """Has the dense model finished before all others: inside the sweep when the others can wait, else by a pass of its own."""
    dense_first = replace(plan, dense_first=True)
    if dense_first.minimum <= limit:
        return dense_first
    scores.dense = model.stream(scores.ids, lengths=scores.lengths)
    return plan


class Reading(Protocol):
    """What all streams read: windows of text, or a tree of prompts (`analysis.engine.prompts`). A stream is one tensor."""

    edges: int  # that share a call of a block, at most; those of one stream always do

    def begin(self) -> Tensor:
        """The stream that enters the first block."""
        ...

    def advance(self, i: int, xs: Sequence[Tensor], edges: Sequence[Edge], owners: Sequence[Stream]) -> list[Tensor]:
        """Block `i` on the streams `xs`: a new stream for each edge, which is that of the ablations `owners`."""
        ...


class Windows:
    """Right-padded documents `ids` (D, T); a stream is (D, T, d). A call of a block reads about `tokens` tokens of some of them."""

    def __init__(self, model: BlockModel, ids: Tensor, lengths: Tensor, tokens: int | None = None) -> None:
        self.model, self.ids, self.lengths = model, ids, lengths
        together, self.edges = shared(len(ids), ids.shape[1], tokens or pieces_of(ids.device).tokens)
        self.parts = list(slices(len(ids), -(-len(ids) // together)))

    def begin(self) -> Tensor:
        begun = [self.model.begin(self.ids[part], lengths=self.lengths[part]) for part in self.parts]
        self.contexts = [ctx for _, ctx in begun]
        return torch.cat([x for x, _ in begun])

    def advance(self, i: int, xs: Sequence[Tensor], edges: Sequence[Edge], owners: Sequence[Stream]) -> list[Tensor]:
        outs = [torch.empty_like(xs[0]) for _ in edges]
        for part, ctx in zip(self.parts, self.contexts, strict=True):
            x = self.model.advance(i, torch.cat([x[part] for x in xs]), ctx, edges).x
            for out, stream in zip(outs, x.unflatten(0, (-1, ctx.documents)), strict=True):
                out[part] = stream
        return outs


def shared(documents: int, time: int, tokens: int) -> tuple[int, int]:
    """How many documents and edges a call of about `tokens` tokens takes: two edges at least, as far as documents go."""
    together = max(1, min(documents, tokens // (2 * time)))
    return together, max(1, tokens // (together * time))


class Scores(Protocol):
    """What takes the streams that arrive behind the last block."""

    def add(self, ablations: Sequence[int], xs: Sequence[Tensor]) -> None: ...


class Executor:
    """Goes down the tree of one reading, all streams of a depth at once when they fit, else one part after the other.

    Every stream is a tensor of its own, in lists that whoever takes it empties: it is freed when it is used up.
    """

    def __init__(self, plan: Plan, reading: Reading, scores: Scores, limit: int, progress: Callable[[int], None]) -> None:
        self.plan, self.reading, self.scores, self.limit, self.progress = plan, reading, scores, limit, progress

    def run(self) -> None:
        xs = [self.reading.begin()]
        self._descend(0, [tuple(range(len(self.plan.ablations)))], xs, held=1)  # held: the finished dense stream

    def _descend(self, i: int, streams: list[Stream], xs: list[Tensor], held: int) -> None:
        """Takes `streams`, which enter block `i` as `xs`, to the end, while `held` others wait."""
        while i < len(self.plan.spec.blocks):
            splits = [self.plan.split(i, stream) for stream in streams]
            children = [child for split in splits for child in split.values()]
            if held + max(len(streams) + len(children), self.plan.peak(i + 1, children)) > self.limit:
                self._halves(i, streams, xs, held)
                return
            xs = self._advance(i, xs, splits)
            streams, i = children, i + 1
        self.scores.add([ablation for stream in streams for ablation in stream], xs)

    def _halves(self, i: int, streams: list[Stream], xs: list[Tensor], held: int) -> None:
        x_of = dict(zip(streams, xs, strict=True))
        xs.clear()
        order = self.plan.order(i, streams)
        middle = (len(order) + 1) // 2
        for half, waiting in ((order[:middle], len(order) - middle), (order[middle:], 0)):
            self._descend(i, half, [x_of.pop(stream) for stream in half], held + waiting)

    def _advance(self, i: int, xs: list[Tensor], splits: Sequence[Mapping[Action, Stream]]) -> list[Tensor]:
        """Block `i` on all streams, in calls of a bounded number of edges; the branches of a stream share a call."""
        out: list[Tensor] = []
        first = 0
        while first < len(splits):
            last, n = first, 0
            while last < len(splits) and (n == 0 or n + len(splits[last]) <= self.reading.edges):
                n += len(splits[last])
                last += 1
            edges = [(v - first, action) for v in range(first, last) for action in splits[v]]
            out += self.reading.advance(i, xs[first:last], edges, [stream for split in splits[first:last] for stream in split.values()])
            first = last
            self.progress(n)
        xs.clear()
        return out


def stream_bytes(model: BlockModel, documents: int, time: int) -> int:
    return documents * time * model.spec.d_model * model.stream_dtype.itemsize


class Room(NamedTuple):  # in memory, beside the model
    streams: int
    pieces: Pieces


def room_for(memory: int | None, model: BlockModel, plan: Plan, documents: int, time: int) -> Room:
    """How many streams of a batch fit into `memory` bytes beside what one call needs. Raises StrataError if too few."""
    what = f"{documents} documents of {time} tokens at once"
    return room(
        memory, model, plan.minimum, stream_bytes(model, documents, time), lambda p: call_bytes(model, plan, documents, time, p), what
    )


def room(memory: int | None, model: BlockModel, least: int, stream: int, call: Callable[[Pieces], int], what: str) -> Room:
    """How many streams of `stream` bytes fit beside what a `call` takes, in smaller pieces where `least` would not.

    Without `memory` half of what is free is for them, and all of it where the least takes more. Raises StrataError if it does.
    """
    allowed, pieces = memory or default_memory(model.device), pieces_of(model.device)
    while least * stream + call(pieces) > allowed and pieces.tokens > 1:
        pieces = pieces.halved()
    need = least * stream + call(pieces)
    if memory is None and need > allowed:
        allowed = min(need, int(FILLED * free(model.device)))
    if allowed < need:
        raise too_little(f"this sweep needs {megabytes(need)} for {what}", allowed, model, given=memory is not None)
    return Room((allowed - call(pieces)) // stream, pieces)


def call_bytes(model: BlockModel, plan: Plan, documents: int, time: int, pieces: Pieces | None = None) -> int:
    """What a call holds besides streams: the inner activations of its edges, and logits. `pieces` None: as is fastest."""
    pieces = pieces or pieces_of(model.device)
    together, edges = shared(documents, time, pieces.tokens)
    tokens = together * time * max(plan.branches, min(edges, len(plan.ablations)))
    return inner_bytes(model, tokens, time) + score_bytes(model, documents * time, pieces)


def inner_bytes(model: BlockModel, tokens: int, time: int) -> int:
    """What a block needs inside for `tokens` tokens in rows of `time`."""
    return max(_inside(model, block, tokens, time, graph=False) for block in model.spec.blocks)


def graph_bytes(model: BlockModel, time: int) -> int:
    """What gradients keep of all blocks for a document of `time` tokens: about twice what passes need."""
    return sum(_inside(model, block, time, time, graph=True) for block in model.spec.blocks)


def _inside(model: BlockModel, block: BlockSpec, tokens: int, time: int, *, graph: bool) -> int:
    d, sparse = model.spec.d_model, block.n_experts > 0
    of_mixer = max(4 * d, block.mixer_flops // (2 * d))
    of_ffn = 3 * max(block.d_ffn, block.d_expert) + 2 * (block.n_experts + d) * sparse  # experts: sums, shares
    scan = scan_bytes(block.scan, model.device, model.dtype, tokens, time, graph=graph) if block.scan else 0
    return (1 + graph) * tokens * (of_mixer + of_ffn) * model.dtype.itemsize + scan


def documents_per_batch(model: BlockModel, plan: Plan, time: int, memory: int | None = None) -> int:
    """How many documents of `time` tokens to sweep at once: as many as fill half a call, if all their streams fit in memory."""
    allowed, pieces = memory or default_memory(model.device), pieces_of(model.device)
    while call_bytes(model, plan, 1, time, pieces) > allowed // 2 and pieces.tokens > 1:
        pieces = pieces.halved()

    def fits(n: int) -> bool:
        return call_bytes(model, plan, n, time, pieces) + plan.widest * stream_bytes(model, n, time) <= allowed

    return next((n for n in range(pieces.tokens // (2 * time), 1, -1) if fits(n)), 1)


def where_not_finite(model: BlockModel, plan: Plan, ids: Tensor, lengths: Tensor, scores: Tensor, names: Sequence[str] | None) -> str:
    """Runs the first affected ablation on the first affected document again, and names the block."""
    ablation, document = map(int, (~torch.isfinite(scores)).nonzero()[0])
    found: list[int] = []
    one = slice(document, document + 1)
    length = int(lengths[document])
    model.stream(
        ids[one, :length],
        plan.ablations[ablation],
        tap=lambda i, parts: found.append(i) if not torch.isfinite(parts.x_out).all() else None,
    )
    place = f"after block {found[0]}" if found else "after the unembedding"
    which = f"document {names[document] if names else document}"
    out = f"out: {plan.ablations[ablation]}; {model.precision}"
    fix = "look for damaged weights" if model.precision == "float32" else "try `dtype` float32"
    return f"the stream of {model.spec.name} is not finite {place} in {which} ({out}): {fix}"
