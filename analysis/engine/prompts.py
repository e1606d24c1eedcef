"""Reads a tree of prompts: what several requests share is computed once, for every ablation of a plan.

Inside each block segments are read parents first, each behind its parent's past: no mask over packed prompts, and the same
code for attention and for recurrences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import Tensor

from adapters.base import BlockModel, Edge
from adapters.block import BlockPast, Context, Past
from analysis.engine.pasts import Pasts, Runs, past_of_blocks, runs
from analysis.engine.pieces import Pieces, pieces_of
from analysis.engine.plan import Stream
from analysis.engine.sweep import inner_bytes
from analysis.engine.tree import Segment, Tree, ends

STREAMS = 16  # that share a call at most: segments are short, and a call should have tokens enough


@dataclass(frozen=True)
class Step:
    """Segments of one length that a call of a block reads together, and what is read behind them."""

    nodes: Tensor  # (D, T)
    parents: Tensor | None  # (D,) their parents' places in the step before; None for roots
    end: int  # tokens of the longest path up to here
    ctx: Context
    children: list[Step]
    ends: list[tuple[int, int]]  # which of them end a prompt, and its number


@dataclass(frozen=True)
class Memory:
    """What is read behind a beginning of `start` tokens, and which prompts are kept at their ends."""

    before: Pasts | None = None
    start: int = 0
    kept: Pasts | None = None
    ends: Mapping[int, Sequence[int]] = field(default_factory=dict)  # by node: the numbers of the prompts that end there


NOTHING = Memory()


class Prompts:
    """Reads a tree; a stream is (nodes, d), without padding."""

    def __init__(self, model: BlockModel, tree: Tree, branches: int = 1, memory: Memory = NOTHING, pieces: Pieces | None = None) -> None:
        self.model, self.tree, self.memory, self.pieces = model, tree, memory, pieces or pieces_of(model.device)
        roots = tree.segments(memory.ends)
        self._past = [max(kept) for kept in zip(*past_of_blocks(model), strict=True)]  # beside the tokens of a row, and of each
        self.edges = max(branches, min(STREAMS, self.pieces.past // self._past_bytes(memory.start + max(ends(roots)))), 1)
        self._start = torch.empty(len(tree), model.spec.d_model, dtype=model.stream_dtype, device=model.device)
        self.steps = self._steps([(segment, None) for segment in roots])

    def _past_bytes(self, tokens: int) -> int:
        """Of one row of one block."""
        fixed, each = self._past
        return max(1, fixed + tokens * each)

    def _steps(self, segments: list[tuple[Segment, int | None]]) -> list[Step]:
        """Groups of segments of equal length, in calls of a bounded number of tokens and of bytes of past."""
        steps = []
        for time, group in groupby(sorted(segments, key=lambda s: (len(s[0].nodes), s[0].start)), key=lambda s: len(s[0].nodes)):
            found = list(group)
            longest = self.memory.start + max(segment.start for segment, _ in found) + time
            by_past = self.pieces.past // (self.edges * self._past_bytes(longest))
            size = max(1, min(self.pieces.tokens // (self.edges * time), by_past))
            steps += [self._step(found[first : first + size]) for first in range(0, len(found), size)]
        return steps

    def _step(self, segments: list[tuple[Segment, int | None]]) -> Step:
        device = self.model.device
        nodes = torch.tensor([segment.nodes for segment, _ in segments], device=device)
        places = [place for _, place in segments if place is not None]
        start = torch.tensor([self.memory.start + segment.start for segment, _ in segments], device=device)
        ids = torch.tensor(self.tree.tokens, device=device)[nodes]
        self._start[nodes], ctx = self.model.begin(ids, start=start)
        children = self._steps([(child, place) for place, (segment, _) in enumerate(segments) for child in segment.children])
        ended = [(d, prompt) for d, (segment, _) in enumerate(segments) for prompt in self.memory.ends.get(segment.nodes[-1], ())]
        end = int(start.max()) + nodes.shape[1]
        return Step(nodes, torch.tensor(places, device=device) if places else None, end, ctx, children, ended)

    def call_bytes(self, streams: int) -> int:
        """What calls hold beside streams, of which there are `streams` at most: activations, and pasts on the way to a segment."""
        edges = min(self.edges, streams)

        def need(step: Step, waiting: int) -> int:
            rows, time = edges * len(step.nodes), step.nodes.shape[1]
            after = rows * self._past_bytes(step.end)
            before = rows * self._past_bytes(step.end - time)  # of the segment that it is read behind, a row for each of its own
            here = waiting + before + after + inner_bytes(self.model, rows * time, time)
            return max([here, *(need(child, waiting + after) for child in step.children)])

        return max(need(step, 0) for step in self.steps)

    def begin(self) -> Tensor:
        return self._start

    def advance(self, i: int, xs: Sequence[Tensor], edges: Sequence[Edge], owners: Sequence[Stream]) -> list[Tensor]:
        """Streams that a block leaves as they are are passed on; nothing writes to a stream that has been given out."""
        kept = [(edge, stream) for edge, stream in zip(edges, owners, strict=True) if not edge[1].adds_nothing]
        outs = [torch.empty_like(xs[0]) for _ in kept]
        if kept:
            running, streams = zip(*kept, strict=True)
            each = runs(self.model.blocks[i].spec, running, streams)
            for step in self.steps:
                self._visit(i, xs, running, each, outs, step, self._before(i, each, len(step.nodes)))
        made = iter(outs)
        return [xs[v] if action.adds_nothing else next(made) for v, action in edges]

    def _visit(
        self, i: int, xs: Sequence[Tensor], edges: Sequence[Edge], each: Runs, outs: list[Tensor], step: Step, past: BlockPast | None
    ) -> None:
        """One step and all below it. Pasts alive are those of the steps on the way here, of one block, and those that are kept."""
        rows, _, after = self.model.advance(i, torch.cat([x[step.nodes] for x in xs]), step.ctx, edges, past)
        for out, x in zip(outs, rows.unflatten(0, (-1, len(step.nodes))), strict=True):
            out[step.nodes] = x
        del rows, past
        if self.memory.kept is not None and step.ends:
            for part, of in after._asdict().items():
                if of is not None:
                    self.memory.kept.keep(i, part, of, each[part], step.ends, len(step.nodes))
        for child in step.children:
            self._visit(i, xs, edges, each, outs, child, self._past_of(after, each, child, len(step.nodes)))

    def _before(self, i: int, each: Runs, documents: int) -> BlockPast | None:
        """The beginning that roots go on from, for every run and document."""
        if (before := self.memory.before) is None:
            return None
        wanted = {part: [(stream[0], 0) for stream in streams for _ in range(documents)] for part, streams in each.items()}
        return BlockPast(**{part: before.rows(i, part, rows) if rows else None for part, rows in wanted.items()})

    def _past_of(self, past: BlockPast, each: Runs, step: Step, documents: int) -> BlockPast:
        """The rows of the parents: of each run of a mixer and an ffn."""
        parents = step.parents
        assert parents is not None

        def rows(part: Past | None, variants: int) -> Past | None:
            if part is None:
                return None
            index = torch.arange(variants, device=parents.device)[:, None] * documents + parents
            return part.rows(index.flatten())

        return BlockPast(rows(past.mixer, len(each["mixer"])), rows(past.ffn, len(each["ffn"])))
