"""Greedy removal: every part that is left is scored again after each removal (SLEB, arXiv 2402.09025; BlockPruner, arXiv 2406.10594)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from adapters.ablation import NONE, Ablation
from adapters.action import Action
from adapters.base import BlockModel, Edge
from adapters.errors import StrataError
from adapters.memory import default_memory
from adapters.specs import ModelSpec
from analysis.data.batches import Batch
from analysis.engine.plan import Plan, Stream
from analysis.engine.sweep import Executor, Windows, room_for, stream_bytes
from analysis.engine.text_scores import TextScores
from analysis.removal.paths import RemovalPath

Streams = dict[int, Tensor]  # of the base, by the block that they enter


def round_plan(spec: ModelSpec, base: Ablation, parts: Sequence[Ablation]) -> Plan:
    """What one round scores: the base, and the base without each part that it still has."""
    ablations = tuple(dict.fromkeys([base, *(base | part for part in parts)]))
    return Plan(spec, ablations, tuple(a.actions(spec) for a in ablations))


def greedy_flops(spec: ModelSpec, parts: Sequence[Ablation], most: int) -> int:
    """FLOPs a token of a whole search, an upper estimate: which parts go does not matter when blocks are alike."""
    total, base = 0, NONE
    for part in parts[:most]:
        total += round_plan(spec, base, parts).flops_per_token
        base |= part
    return total


@torch.inference_mode()
def greedy(
    model: BlockModel,
    batches: Sequence[Batch],
    parts: Sequence[Ablation],
    most: int,
    begun: RemovalPath = (NONE,),
    keep: Callable[[RemovalPath], None] = lambda path: None,
) -> RemovalPath:
    """What is out after 0, 1, ... `most` rounds; each takes out the part of `parts` without which the nll is lowest.

    Goes on from the rounds that are `begun`; the path is given to `keep` after each.

    A round is one sweep. Streams in front of the part that has just gone are those of the round before: they are kept, for
    as many batches as fit into memory, and not computed again. Raises StrataError when a loss is not finite.
    """
    room = default_memory(model.device)
    known: list[Streams | None] = []
    for batch in batches:
        room -= (len(model.blocks) + 1) * stream_bytes(model, *batch.ids.shape)
        known.append({} if room >= 0 else None)
    path = begun
    while len(path) <= most:
        plan = round_plan(model.spec, path[-1], parts)
        nll = torch.stack([_score(model, plan, b, streams) for b, streams in zip(batches, known, strict=True)]).sum(0)
        if not torch.isfinite(nll).all():
            raise StrataError(
                f"the loss of {model.spec.name} is not finite without {plan.ablations[int((~torch.isfinite(nll)).nonzero()[0])]}"
            )
        path = (*path, plan.ablations[1 + int(nll[1:].argmin())])
        first = changed(path[-2], path[-1])
        for streams in filter(None, known):
            for i in [i for i in streams if i > first]:
                del streams[i]
        keep(path)
    return path


def changed(before: Ablation, after: Ablation) -> int:
    """The block that a removal was in."""
    heads = {block for block, _ in after.heads - before.heads}
    (i,) = (after.blocks - before.blocks) | (after.mixers - before.mixers) | (after.ffns - before.ffns) | heads
    return i


def _score(model: BlockModel, plan: Plan, batch: Batch, known: Streams | None) -> Tensor:
    """Nll of every ablation over one batch (A,), on the CPU."""
    ids, lengths = batch.ids.to(model.device), batch.lengths.to(model.device)
    limit, pieces = room_for(None, model, plan, *ids.shape)
    scores = TextScores(model, ids, lengths, len(plan.ablations), kl=False, first=batch.first, pieces=pieces)
    tokens = pieces.tokens
    reading = Windows(model, ids, lengths, tokens) if known is None else Continued(model, ids, lengths, tokens, plan.actions[0], known)
    Executor(plan, reading, scores, limit, lambda n: None).run()
    return scores.sums["nll"].sum(1).cpu()


class Continued(Windows):
    """Keeps the streams of the base, whose `actions` are given, in `known`, and takes those that are there already."""

    def __init__(self, model: BlockModel, ids: Tensor, lengths: Tensor, tokens: int, actions: Sequence[Action], known: Streams) -> None:
        super().__init__(model, ids, lengths, tokens)
        self.actions, self.known = actions, known

    def begin(self) -> Tensor:
        self.known[0] = super().begin()
        return self.known[0]

    def advance(self, i: int, xs: Sequence[Tensor], edges: Sequence[Edge], owners: Sequence[Stream]) -> list[Tensor]:
        base = next((v for v, x in enumerate(xs) if x is self.known.get(i)), None)
        if base is None:  # the base is in another call
            return super().advance(i, xs, edges, owners)
        place = list(edges).index((base, self.actions[i]))
        if i + 1 not in self.known:
            out = super().advance(i, xs, edges, owners)
            self.known[i + 1] = out[place]
            return out
        others = [e for e in range(len(edges)) if e != place]
        out = super().advance(i, xs, [edges[e] for e in others], [owners[e] for e in others]) if others else []
        out.insert(place, self.known[i + 1])
        return out
