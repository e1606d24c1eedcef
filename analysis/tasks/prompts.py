"""Reads a tree of prompts: what several requests share is computed once, for every ablation of a plan.

Inside each block segments are read parents first, each behind its parent's past: no mask over packed prompts, and the same
code for attention and for recurrences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from adapters.base import BlockModel, BlockPast, Context, Edge, Past
from analysis.engine.sweep import call_tokens
from analysis.engine.text_scores import of_device
from analysis.tasks.tree import Segment, Tree, ends

STREAMS = 16  # that share a call at most: segments are short, and a call should have tokens enough
PAST_BYTES = {"cpu": 64 << 20, "cuda": 4 << 30}  # of one call of one block


@dataclass(frozen=True)
class Step:
    """Segments of one length that a call of a block reads together, and what is read behind them."""

    nodes: Tensor  # (D, T)
    parents: Tensor | None  # (D,) their parents' places in the step before; None for roots
    ctx: Context
    children: list[Step]


class Prompts:
    """Reads a tree; a stream is (nodes, d), without padding."""

    def __init__(self, model: BlockModel, tree: Tree, branches: int = 1) -> None:
        self.model, self.tree = model, tree
        roots = tree.segments()
        row = _past_bytes(model, max(ends(roots)))
        self.edges = max(branches, min(STREAMS, of_device(PAST_BYTES, model.device) // row), 1)
        self._start = torch.empty(len(tree), model.spec.d_model, dtype=model.dtype, device=model.device)
        self.steps = self._steps([(segment, None) for segment in roots])

    def _steps(self, segments: list[tuple[Segment, int | None]]) -> list[Step]:
        """Groups of segments of equal length, in calls of a bounded number of tokens and of bytes of past."""
        steps = []
        for time, group in groupby(sorted(segments, key=lambda s: (len(s[0].nodes), s[0].start)), key=lambda s: len(s[0].nodes)):
            found = list(group)
            longest = max(segment.start for segment, _ in found) + time
            by_past = of_device(PAST_BYTES, self.model.device) // (self.edges * _past_bytes(self.model, longest))
            size = max(1, min(call_tokens(self.model.device) // (self.edges * time), by_past))
            steps += [self._step(found[first : first + size]) for first in range(0, len(found), size)]
        return steps

    def _step(self, segments: list[tuple[Segment, int | None]]) -> Step:
        device = self.model.device
        nodes = torch.tensor([segment.nodes for segment, _ in segments], device=device)
        places = [place for _, place in segments if place is not None]
        start = torch.tensor([segment.start for segment, _ in segments], device=device)
        ids = torch.tensor(self.tree.tokens, device=device)[nodes]
        self._start[nodes], ctx = self.model.begin(ids, start=start)
        children = self._steps([(child, place) for place, (segment, _) in enumerate(segments) for child in segment.children])
        return Step(nodes, torch.tensor(places, device=device) if places else None, ctx, children)

    def begin(self) -> Tensor:
        return self._start

    def advance(self, i: int, xs: Sequence[Tensor], edges: Sequence[Edge]) -> list[Tensor]:
        """Streams that a block leaves as they are are passed on; nothing writes to a stream that has been given out."""
        kept = [(v, action) for v, action in edges if not action.adds_nothing]
        outs = [torch.empty_like(xs[0]) for _ in kept]
        for step in self.steps:
            self._visit(i, xs, kept, outs, step, None)
        made = iter(outs)
        return [xs[v] if action.adds_nothing else next(made) for v, action in edges]

    def _visit(self, i: int, xs: Sequence[Tensor], edges: list[Edge], outs: list[Tensor], step: Step, past: BlockPast | None) -> None:
        """One step and all below it. Pasts alive are those of the steps on the way here, of one block."""
        if not edges:
            return
        rows, _, after = self.model.advance(i, torch.cat([x[step.nodes] for x in xs]), step.ctx, edges, past)
        for out, x in zip(outs, rows.unflatten(0, (-1, len(step.nodes))), strict=True):
            out[step.nodes] = x
        del rows, past
        for child in step.children:
            self._visit(i, xs, edges, outs, child, self._past_of(i, after, edges, child, len(step.nodes)))

    def _past_of(self, i: int, past: BlockPast, edges: Sequence[Edge], step: Step, documents: int) -> BlockPast:
        """The rows of the parents: of each variant that the mixer, and the ffn, of block `i` ran on."""
        mixers = {v for v, action in edges if action.mixer}
        ffns = {(v, self.model.blocks[i].spec.read_by_ffn(action)) for v, action in edges if action.ffn}
        parents = step.parents
        assert parents is not None

        def rows(part: Past | None, variants: int) -> Past | None:
            if part is None:
                return None
            index = torch.arange(variants, device=parents.device)[:, None] * documents + parents
            return part.rows(index.flatten())

        return BlockPast(rows(past.mixer, len(mixers)), rows(past.ffn, len(ffns)))


def _past_bytes(model: BlockModel, tokens: int) -> int:
    """Of one row of one block: keys and values as wide as the stream, or a state as wide as a head."""
    states = max(block.head_dim or 1 for block in model.spec.blocks)
    return 2 * model.spec.d_model * (tokens + states) * max(4, model.dtype.itemsize)
