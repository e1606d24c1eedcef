"""Prompts as a tree of tokens: what several requests share is computed once, for every ablation of a plan.

A request is a context and a continuation whose likelihood is asked for. Requests that begin alike share nodes: the k-shot
prefix of a subject, then the question, then the options. A node is one token; nodes without a branch between them make
a segment. Inside each block segments are read parents first, each behind its parent's past: no mask over packed prompts,
and the same code for attention and for recurrences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from adapters.base import BlockModel, BlockPast, Context, Edge, Past
from adapters.errors import StrataError
from analysis.plan import Plan
from analysis.requests import Request
from analysis.scores import ROWS, of_device, score_bytes, slices, vocabulary
from analysis.sweep import Executor, call_tokens, default_memory, inner_bytes, room, where_not_finite

STREAMS = 16  # that share a call at most: segments are short, and a call should have tokens enough
PAST_BYTES = {"cpu": 64 << 20, "cuda": 4 << 30}  # of one call of one block
BATCH_TOKENS = {"cpu": 16384, "cuda": 65536}  # nodes of one tree, when memory holds the streams


class Likelihoods(NamedTuple):
    """(ablations, requests): nats, in fp64, and whether each token of the continuation is the likeliest one."""

    nats: Tensor
    greedy: Tensor


@dataclass
class Tree:
    """A prefix tree of token sequences. Nodes are numbered in the order they come, parents before children."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)  # -1: a root
    _child: dict[tuple[int, int], int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, sequence: Iterable[int]) -> list[int]:
        """The nodes of `sequence`, new ones where nothing begins like it."""
        node, path = -1, []
        for token in sequence:
            found = self._child.setdefault((node, token), len(self.tokens))
            if found == len(self.tokens):
                self.tokens.append(token)
                self.parents.append(node)
            node = found
            path.append(node)
        return path

    def segments(self) -> list[Segment]:
        """The roots of the tree of segments."""
        children = [0] * len(self)
        for parent in self.parents:
            if parent >= 0:
                children[parent] += 1
        roots: list[Segment] = []
        of: list[Segment] = []
        for node, parent in enumerate(self.parents):
            if parent >= 0 and children[parent] == 1:
                of.append(of[parent])
                of[parent].nodes.append(node)
                continue
            before = of[parent] if parent >= 0 else None
            of.append(Segment([node], before.start + len(before.nodes) if before else 0))
            (before.children if before else roots).append(of[node])
        return roots


@dataclass
class Segment:
    nodes: list[int]
    start: int  # tokens in front of it
    children: list[Segment] = field(default_factory=list)


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
        row = _past_bytes(model, max(_ends(roots)))
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
        kept = [(v, action) for v, action in edges if action.mixer or action.ffn]
        outs = [torch.empty_like(xs[0]) for _ in kept]
        for step in self.steps:
            self._visit(i, xs, kept, outs, step, None)
        made = iter(outs)
        return [next(made) if action.mixer or action.ffn else xs[v] for v, action in edges]

    def _visit(self, i: int, xs: Sequence[Tensor], edges: list[Edge], outs: list[Tensor], step: Step, past: BlockPast | None) -> None:
        """One step and all below it. Pasts alive are those of the steps on the way here, of one block."""
        if not edges:
            return
        rows, _, after = self.model.advance(i, torch.cat([x[step.nodes] for x in xs]), step.ctx, edges, past)
        for out, x in zip(outs, rows.unflatten(0, (-1, len(step.nodes))), strict=True):
            out[step.nodes] = x
        del rows, past
        for child in step.children:
            self._visit(i, xs, edges, outs, child, _past_of(after, edges, child, len(step.nodes)))


def _past_of(past: BlockPast, edges: Sequence[Edge], step: Step, documents: int) -> BlockPast:
    """The rows of the parents: of each variant that the mixer, and the ffn, ran on."""
    mixers = {v for v, action in edges if action.mixer}
    ffns = {(v, action._replace(ffn=True)) for v, action in edges if action.ffn}
    parents = step.parents
    assert parents is not None

    def rows(part: Past | None, variants: int) -> Past | None:
        if part is None:
            return None
        index = torch.arange(variants, device=parents.device)[:, None] * documents + parents
        return part.rows(index.flatten())

    return BlockPast(rows(past.mixer, len(mixers)), rows(past.ffn, len(ffns)))


class RequestScores:
    """Log-likelihoods of requests from the streams of a tree. Positions that a continuation asks for are projected, each once."""

    def __init__(self, model: BlockModel, paths: Sequence[Sequence[int]], requests: Sequence[Request], n_ablations: int) -> None:
        device = model.device
        asked = sorted(
            (node, token, r)
            for r, (path, request) in enumerate(zip(paths, requests, strict=True))
            for node, token in zip(path[-len(request.continuation) :], request.continuation, strict=True)
        )
        nodes, tokens, owners = torch.tensor(asked, device=device).T
        self.model, self.tokens, self.owners = model, tokens, owners
        self.nodes, self.place = nodes.unique(return_inverse=True)  # (positions,), and for each (asked,) its position
        self.nats = torch.zeros(n_ablations, len(requests), dtype=torch.float64, device=device)
        self.greedy = torch.ones(n_ablations, len(requests), dtype=torch.bool, device=device)

    def add(self, ablations: Sequence[int], xs: Sequence[Tensor]) -> None:
        """Scores the streams `xs`, (nodes, d) each, behind the last block, one for each ablation."""
        rows = of_device(ROWS, self.model.device)
        for where in slices(len(self.nodes), -(-len(self.nodes) // rows)):
            variants = max(1, rows // (where.stop - where.start))
            for v in range(0, len(ablations), variants):
                self._score(list(ablations[v : v + variants]), xs[v : v + variants], where)

    def _score(self, ablations: list[int], xs: Sequence[Tensor], where: slice) -> None:
        first, last = torch.searchsorted(self.place, torch.tensor([where.start, where.stop], device=self.place.device)).tolist()
        place, tokens, owners = self.place[first:last] - where.start, self.tokens[first:last], self.owners[first:last]
        h = self.model.norm(torch.stack([x[self.nodes[where]] for x in xs]))  # (V, positions, d)
        best = torch.full(h.shape[:2], -torch.inf, device=h.device)
        likeliest = torch.zeros(h.shape[:2], dtype=torch.long, device=h.device)
        of_token = torch.zeros(len(xs), len(tokens), device=h.device)
        log_z = []
        for block in vocabulary(self.model, best.numel()):
            logits = self.model.head(h, block).float()  # (V, positions, block)
            log_z.append(logits.logsumexp(-1))
            top, index = logits.max(-1)
            likeliest = torch.where(top > best, index + block.start, likeliest)
            best = torch.maximum(best, top)
            inside = (tokens >= block.start) & (tokens < block.stop)
            of_token[:, inside] = logits[:, place[inside], tokens[inside] - block.start]
        total = torch.stack(log_z).double().logsumexp(0)
        nats = torch.zeros(len(xs), self.nats.shape[1], dtype=torch.float64, device=h.device)
        self.nats[ablations] += nats.index_add(1, owners, of_token - total[:, place])
        misses = torch.zeros_like(nats).index_add(1, owners, (likeliest[:, place] != tokens).double())
        self.greedy[ablations] &= misses == 0


@torch.inference_mode()
def likelihoods(
    model: BlockModel,
    plan: Plan,
    requests: Sequence[Request],
    *,
    memory: int | None = None,
    names: Sequence[str] | None = None,
    progress: Callable[[int], None] = lambda streams: None,
) -> Likelihoods:
    """Log-likelihoods of `requests` under every ablation of `plan`, from one tree.

    What does not fit into the model's context is cut on the left, as lm_eval does. `memory` is in bytes; `progress` is told
    the streams that each step has advanced. Raises StrataError when `memory` is too small, on an empty context or
    continuation, on a continuation longer than the context, and on a stream that is not finite (`names` name requests).
    """
    _check(model, requests, names)
    tree = Tree()
    paths = [tree.add(request.inputs(model.spec.max_len)) for request in requests]
    limit = room(memory, model, plan.minimum, _stream_bytes(model) * len(tree), call_bytes(model, plan), f"a tree of {len(tree)} tokens")
    scores = RequestScores(model, paths, requests, len(plan.ablations))
    Executor(plan, Prompts(model, tree, plan.branches), scores, limit, progress).run()
    nats = scores.nats.cpu()
    if not torch.isfinite(nats).all():
        ids = [torch.tensor(request.inputs(model.spec.max_len), device=model.device) for request in requests]
        lengths = torch.tensor([len(row) for row in ids])
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        raise StrataError(where_not_finite(model, plan, padded, lengths, nats, names))
    return Likelihoods(nats, scores.greedy.cpu())


def batches(model: BlockModel, plan: Plan, documents: Sequence[Sequence[Request]], memory: int | None = None) -> Iterator[slice]:
    """Consecutive documents whose requests make one tree: as many as memory holds the streams of, and at least one."""
    allowed = (memory or default_memory(model.device)) - call_bytes(model, plan)
    most = min(of_device(BATCH_TOKENS, model.device), allowed // (_stream_bytes(model) * (plan.minimum + 4)))
    first, tree = 0, Tree()
    for d, requests in enumerate(documents):
        for attempt in ("with those before", "first of its tree"):
            for request in requests:
                tree.add(request.inputs(model.spec.max_len))
            if len(tree) <= most or d == first or attempt == "first of its tree":
                break
            yield slice(first, d)
            first, tree = d, Tree()
    if documents:
        yield slice(first, len(documents))


def tree_size(requests: Iterable[Request], max_len: int) -> int:
    """Tokens that go through the blocks for one ablation."""
    tree = Tree()
    for request in requests:
        tree.add(request.inputs(max_len))
    return len(tree)


def call_bytes(model: BlockModel, plan: Plan) -> int:
    """An upper estimate of what a call holds besides streams: inner activations, pasts and their copies, and logits."""
    return (
        inner_bytes(model, call_tokens(model.device) * max(1, plan.branches))
        + 3 * of_device(PAST_BYTES, model.device)
        + score_bytes(model.device)
    )


def _stream_bytes(model: BlockModel) -> int:
    """Of one node."""
    return model.spec.d_model * model.dtype.itemsize


def _past_bytes(model: BlockModel, tokens: int) -> int:
    """Of one row of one block: keys and values as wide as the stream, or a state as wide as a head."""
    states = max(block.head_dim or 1 for block in model.spec.blocks)
    return 2 * model.spec.d_model * (tokens + states) * max(4, model.dtype.itemsize)


def _check(model: BlockModel, requests: Sequence[Request], names: Sequence[str] | None) -> None:
    for r, request in enumerate(requests):
        which = f"request {names[r] if names else r}"
        if not request.context or not request.continuation:
            part = "continuation" if request.context else "context"
            raise StrataError(f"{which} has no {part}: both need at least one token")
        if len(request.continuation) > model.spec.max_len:
            raise StrataError(
                f"{which} asks for {len(request.continuation)} tokens at once, {model.spec.name} reads {model.spec.max_len}: leave it out"
            )


def _ends(segments: Iterable[Segment]) -> Iterator[int]:
    """Tokens up to the end of each segment."""
    for segment in segments:
        yield segment.start + len(segment.nodes)
        yield from _ends(segment.children)
