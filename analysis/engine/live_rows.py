"""Rows of ablation and prompt that are read one token at a time: every block once a step for all rows with the same action there."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adapters.action import Action
from adapters.base import BlockModel
from adapters.block import BlockPast, Past
from analysis.engine.pasts import Pasts
from analysis.engine.plan import Plan


@dataclass
class LiveRow:
    ablation: int  # numbers in the plan and among the prompts
    prompt: int
    at: int  # tokens in front of the next one
    numbers: random.Random
    tokens: list[int] = field(default_factory=list)  # written so far
    done: bool = False


@dataclass
class Group:
    """Rows that a block does the same to."""

    action: Action
    members: list[int]  # among all rows, ascending
    index: Tensor | None  # the same; None: all of them
    past: BlockPast


class LiveRows:
    """Rows that go on from `beginnings`, which were read before."""

    def __init__(self, model: BlockModel, plan: Plan, beginnings: Pasts | None) -> None:
        self.model, self.plan, self.beginnings = model, plan, beginnings
        self.rows: list[LiveRow] = []
        self._groups: list[list[Group]] = [[] for _ in model.blocks]

    @property
    def alive(self) -> list[int]:
        return [n for n, row in enumerate(self.rows) if not row.done]

    def renew(self, new: Sequence[LiveRow] = (), pasts: Pasts | None = None) -> None:
        """Rows that are done go; `new` ones come, whose `pasts` are given."""
        kept, before = self.alive, self._groups
        place = {old: n for n, old in enumerate(kept)}
        rows = [self.rows[n] for n in kept] + list(new)
        for i, groups in enumerate(before):
            old = {group.action: group for group in groups}
            members: dict[Action, list[int]] = {}
            for n, row in enumerate(rows):
                members.setdefault(self.plan.actions[row.ablation][i], []).append(n)
            self._groups[i] = [
                self._group(i, action, each, rows, len(kept), old.get(action), place, pasts)
                for action, each in members.items()
                if not action.adds_nothing
            ]
        self.rows = rows

    def _group(
        self,
        i: int,
        action: Action,
        members: list[int],
        rows: Sequence[LiveRow],
        n_kept: int,
        old: Group | None,
        place: dict[int, int],
        pasts: Pasts | None,
    ) -> Group:
        stays = [p for p, n in enumerate(old.members) if n in place] if old else []
        coming = [(rows[n].ablation, rows[n].prompt) for n in members if n >= n_kept]
        ablations = [rows[n].ablation for n in members]

        def past(part: str, runs: bool) -> Past | None:
            if not runs:
                return None
            found = [getattr(old.past, part).rows(self._index(stays))] if old and stays and getattr(old.past, part) is not None else []
            came = pasts.rows(i, part, coming) if pasts and coming else None
            found += [] if came is None else [came]
            if not found:
                return None
            whole = found[0].joined(found[1:])
            begun = self.beginnings.beginnings(i, part, ablations) if self.beginnings else None
            return whole.behind(*begun) if begun else whole

        index = None if len(members) == len(rows) else self._index(members)
        return Group(action, members, index, BlockPast(past("mixer", action.mixer), past("ffn", action.ffn)))

    @torch.inference_mode()
    def step(self) -> Tensor:
        """Reads the last token of each row: the stream behind the last block (rows, d)."""
        ids = self._index([row.tokens[-1] for row in self.rows])[:, None]
        x, ctx = self.model.begin(ids, start=self._index([row.at for row in self.rows]))
        for i, groups in enumerate(self._groups):
            for group in groups:
                rows = group.index
                mine, its = (x, ctx) if rows is None else (x[rows], ctx.rows(rows))
                done = self.model.advance(i, mine, its, [(0, group.action)], group.past)
                group.past = done.past
                x = done.x if rows is None else x.index_copy(0, rows, done.x)
        for row in self.rows:
            row.at += not row.done
        return x[:, -1]

    def _index(self, index: Sequence[int]) -> Tensor:
        return torch.tensor(index, dtype=torch.long, device=self.model.device)
