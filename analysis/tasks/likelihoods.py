"""Log-likelihoods of requests under every ablation of a plan, from one tree of their prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from adapters.base import BlockModel
from adapters.errors import StrataError
from adapters.memory import default_memory
from analysis.engine.pieces import Pieces, pieces_of
from analysis.engine.plan import Plan
from analysis.engine.prompts import Prompts
from analysis.engine.sweep import Executor, require_plan_of, room, where_not_finite
from analysis.engine.text_scores import score_bytes, slices, vocabulary
from analysis.engine.tree import Tree
from analysis.tasks.requests import Request

BATCH_TOKENS = {"cpu": 16384, "cuda": 65536}  # nodes of one tree, when memory holds the streams
STREAMED = 8  # times as many, where weights are streamed


class Likelihoods(NamedTuple):
    """(ablations, requests): nats, in fp64, and whether each token of the continuation is the likeliest one."""

    nats: Tensor
    greedy: Tensor


class Laid(NamedTuple):
    """Requests as one tree, and the room there is for reading it."""

    reading: Prompts
    paths: list[list[int]]  # of each request, its nodes
    limit: int  # streams at once
    pieces: Pieces
    call: int  # bytes that a call holds beside them
    stream: int  # bytes of one


class RequestScores:
    """Log-likelihoods of requests from the streams of a tree. Positions that a continuation asks for are projected, each once."""

    def __init__(
        self, model: BlockModel, paths: Sequence[Sequence[int]], requests: Sequence[Request], n_ablations: int, pieces: Pieces | None = None
    ) -> None:
        device, self.pieces = model.device, pieces or pieces_of(model.device)
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
        rows = self.pieces.rows
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
        for block in vocabulary(self.model, best.numel(), self.pieces):
            logits = self.model.unembed(h, block).float()  # (V, positions, block)
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

    `memory` is in bytes; `progress` is told the streams that each step has advanced. Raises StrataError as `laid_out`, and on a stream
    that is not finite (`names` name requests).
    """
    laid = laid_out(model, plan, requests, memory=memory, names=names)
    scores = RequestScores(model, laid.paths, requests, len(plan.ablations), laid.pieces)
    Executor(plan, laid.reading, scores, laid.limit, progress).run()
    nats = scores.nats.cpu()
    if not torch.isfinite(nats).all():
        ids = [torch.tensor(request.inputs(model.spec.max_len), device=model.device) for request in requests]
        lengths = torch.tensor([len(row) for row in ids])
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        raise StrataError(where_not_finite(model, plan, padded, lengths, nats, names))
    return Likelihoods(nats, scores.greedy.cpu())


def laid_out(
    model: BlockModel, plan: Plan, requests: Sequence[Request], *, memory: int | None = None, names: Sequence[str] | None = None
) -> Laid:
    """What does not fit into the model's context is cut on the left, as lm_eval does.

    Raises StrataError when `memory` is too small, on an empty context or continuation, and on a continuation longer than the context.
    """
    require_plan_of(model, plan)
    _check(model, requests, names)
    tree = Tree()
    paths = [tree.add(request.inputs(model.spec.max_len)) for request in requests]
    reading = cache(lambda pieces: Prompts(model, tree, plan.branches, pieces=pieces))
    positions = sum(len(request.continuation) for request in requests)

    def call(pieces: Pieces) -> int:
        return reading(pieces).call_bytes(len(plan.ablations)) + score_bytes(model, positions, pieces)

    stream = _stream_bytes(model) * len(tree)
    limit, pieces = room(memory, model, plan.minimum, stream, call, f"a tree of {len(tree)} tokens")
    return Laid(reading(pieces), paths, limit, pieces, call(pieces), stream)


def batches(model: BlockModel, plan: Plan, documents: Sequence[Sequence[Request]], memory: int | None = None) -> Iterator[slice]:
    """Consecutive documents whose requests make one tree: as many as half of the memory holds the streams of, and at least one.

    Where weights are streamed that is all streams, in larger trees, so that weights are read a few times alone.
    """
    fastest = BATCH_TOKENS.get(model.device.type, BATCH_TOKENS["cpu"])
    streams, cap = (plan.minimum + 4, fastest) if model.reader is None else (plan.widest, STREAMED * fastest)
    most = min(cap, (memory or default_memory(model.device)) // 2 // (_stream_bytes(model) * streams))
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


def _stream_bytes(model: BlockModel) -> int:
    """Of one node."""
    return model.spec.d_model * model.stream_dtype.itemsize


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
