"""What a sweep will do, counted before anything runs.

Ablations that agree up to a block share the stream there, so a sweep is a prefix tree over block actions. A stream is
named by the indices of the ablations that share it; the tree is never built, only split block by block.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from adapters.ablation import NONE, Ablation
from adapters.action import Action
from adapters.experts import Out, in_common, met
from adapters.specs import BlockSpec, ModelSpec

Stream = tuple[int, ...]  # ascending indices of the ablations that share it


class Level(NamedTuple):
    """Work at one block, in rows: a run for each document."""

    streams: int  # that enter it
    mixers: int
    ffns: int
    again: float = 0.0  # runs of its ffn on some tokens alone, which experts that are out would have had: the expected share of a row


@dataclass(frozen=True)
class Plan:
    """Ablations of one model, the dense one first, and the tree that they make."""

    spec: ModelSpec
    ablations: tuple[Ablation, ...]
    actions: tuple[tuple[Action, ...], ...]  # of each ablation, of each block
    dense_first: bool = False  # finish the dense model before all others, since their scores compare with it

    def split(self, i: int, stream: Stream) -> dict[Action, Stream]:
        """The streams that leave block `i` for one that enters it, by what the block does to them."""
        if len(stream) == 1:
            return {self.actions[stream[0]][i]: stream}
        out: dict[Action, list[int]] = {}
        for ablation in stream:
            out.setdefault(self.actions[ablation][i], []).append(ablation)
        return {action: tuple(ids) for action, ids in out.items()}

    @cached_property
    def levels(self) -> list[Level]:
        """What happens at each block."""
        streams: list[Stream] = [tuple(range(len(self.ablations)))]
        levels = []
        for i, spec in enumerate(self.spec.blocks):
            actions = [self.split(i, stream) for stream in streams]
            mixers = sum(any(a.mixer for a in split) for split in actions)
            ffns = sum(len({spec.read_by_ffn(a) for a in split if a.ffn}) for split in actions)
            again = sum(_again(spec, split) for split in actions) if spec.n_experts else 0.0
            levels.append(Level(len(streams), mixers, ffns, again))
            streams = [child for split in actions for child in split.values()]
        return levels

    @cached_property
    def branches(self) -> int:
        """At most so many streams leave a block for one that enters it."""
        return max(len(set(actions)) for actions in zip(*self.actions, strict=True))

    @property
    def mixer_rows(self) -> int:
        """Runs of a mixer for each document."""
        return sum(level.mixers for level in self.levels)

    @property
    def ffn_rows(self) -> int:
        """Runs of an ffn for each document; those on the tokens of some experts alone are `again_rows`."""
        return sum(level.ffns for level in self.levels)

    @property
    def again_rows(self) -> float:
        return sum(level.again for level in self.levels)

    @property
    def widest(self) -> int:
        """Streams held at once when memory is no concern: what enters a block and what leaves it, and the dense one."""
        widths = [level.streams for level in self.levels] + [len(self.ablations)]
        return 1 + max(a + b for a, b in pairwise(widths))

    @property
    def flops_per_token(self) -> int:
        """Of all blocks and of one head for each ablation; what grows with the context is left out."""
        blocks = sum(
            spec.mixer_flops * level.mixers + (spec.flops_per_token - spec.mixer_flops) * (level.ffns + level.again)
            for spec, level in zip(self.spec.blocks, self.levels, strict=True)
        )
        return round(blocks) + len(self.ablations) * self.spec.unembed_flops

    @cached_property
    def minimum(self) -> int:
        """The fewest streams that must be held at once, the finished dense one included."""
        return 1 + self.need(0, tuple(range(len(self.ablations))))

    def need(self, i: int, stream: Stream) -> int:
        """The fewest streams held at once while everything below `stream` is computed from block `i` on."""
        if i == len(self.spec.blocks):
            return 1
        if len(stream) == 1:
            return 2  # what enters and what leaves a block
        place = (i, stream[0])
        if place not in self._needs:
            children = list(self.split(i, stream).values())
            self._needs[place] = max(1 + len(children), self.peak(i + 1, children))
        return self._needs[place]

    @cached_property
    def _needs(self) -> dict[tuple[int, int], int]:
        """`need` by block and first ablation, which name a stream."""
        return {}

    def peak(self, i: int, streams: Sequence[Stream]) -> int:
        """Streams held at once when `streams` are finished one after the other, in `order`."""
        needs = [self.need(i, stream) for stream in self.order(i, streams)]
        return max(need + waiting for need, waiting in zip(needs, range(len(needs) - 1, -1, -1), strict=True))

    def order(self, i: int, streams: Sequence[Stream]) -> list[Stream]:
        """What needs most room comes last, when no others wait."""
        return sorted(streams, key=lambda stream: (self.dense_first and 0 not in stream, self.need(i, stream)))


def _again(spec: BlockSpec, actions: Iterable[Action]) -> float:
    """Runs of an ffn on the tokens of some experts alone, for what happens to one stream."""
    outs: dict[Action, set[Out]] = {}
    for action in actions:
        if action.ffn:
            outs.setdefault(spec.read_by_ffn(action), set()).add(action.experts)
    return sum(met(spec, base, out) for each in outs.values() for base in [in_common(each)] for out in each - {base})


def plan(spec: ModelSpec, ablations: Iterable[Ablation]) -> Plan:
    """Counts a sweep. The dense model is added, doubles are dropped, the only part of a block becomes that block.

    Raises StrataError on a block, a part of one, a head or an expert that does not exist.
    """
    unique = tuple(dict.fromkeys((NONE, *(a.canonical(spec) for a in ablations))))
    return Plan(spec, unique, tuple(a.actions(spec) for a in unique))
