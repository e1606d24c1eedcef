"""What blocks keep of prompts that were read for every ablation of a plan. Ablations that share a stream share what is kept of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from adapters.action import KEEP
from adapters.base import BlockModel, Edge
from adapters.block import Past
from adapters.specs import BlockSpec
from analysis.engine.plan import Stream

Row = tuple[int, int]  # ablation and prompt, by number
Runs = dict[str, list[Stream]]  # by part, mixer or ffn: whom each run of it is for
Kept = list[tuple[int, int]]  # bytes that each block keeps of a row beside its tokens, and of each token
_MEASURED: WeakKeyDictionary[BlockModel, Kept] = WeakKeyDictionary()


def past_of_blocks(model: BlockModel) -> Kept:
    """Measured once, on one block of each shape."""
    if model not in _MEASURED:
        specs = [block.spec for block in model.blocks]
        of_spec = {spec: [_kept(model, specs.index(spec), n) for n in (1, 2)] for spec in dict.fromkeys(specs)}
        _MEASURED[model] = [(2 * one - two, two - one) for one, two in (of_spec[spec] for spec in specs)]
    return _MEASURED[model]


@torch.inference_mode()
def _kept(model: BlockModel, i: int, n: int) -> int:
    """Of a row of `n` tokens in block `i`."""
    x, ctx = model.begin(torch.zeros(1, n, dtype=torch.long, device=model.device))
    pasts: list[Any] = [past for past in model.advance(i, x, ctx, [(0, KEEP)]).past if past is not None]
    return sum(t.nbytes for past in pasts for field in fields(past) if isinstance(t := getattr(past, field.name), Tensor))


def runs(spec: BlockSpec, edges: Sequence[Edge], owners: Sequence[Stream]) -> Runs:
    """The ablations behind each run of the mixer and of the ffn in a call of `advance`, in the order of its pasts."""
    found: dict[str, dict[object, list[int]]] = {"mixer": {}, "ffn": {}}
    for (v, action), stream in zip(edges, owners, strict=True):
        if action.mixer:
            found["mixer"].setdefault(v, []).extend(stream)
        if action.ffn:
            found["ffn"].setdefault((v, spec.read_by_ffn(action)), []).extend(stream)
    return {part: [tuple(stream) for stream in found[part].values()] for part in found}


class Pasts:
    """Pasts of calls by block and part, and where in them the row of an ablation and a prompt stands.

    With `skip`, they are held for calls of one token (`Past.live`), without that many tokens.
    """

    def __init__(self, device: torch.device, skip: int | None = None) -> None:
        self._device, self._skip = device, skip
        self._calls: dict[tuple[int, str], list[Past]] = {}
        self._place: dict[tuple[int, str], dict[Row, tuple[int, int]]] = {}

    def keep(self, i: int, part: str, past: Past, streams: Sequence[Stream], prompts: Sequence[tuple[int, int]], documents: int) -> None:
        """`past` has a row for each of `streams` and documents, variant-major; those of `prompts` (document, number) are kept."""
        rows = past.rows(self._index([v * documents + d for v in range(len(streams)) for d, _ in prompts]))
        calls, place = self._calls.setdefault((i, part), []), self._place.setdefault((i, part), {})
        for row, (stream, prompt) in enumerate((stream, prompt) for stream in streams for _, prompt in prompts):
            place |= dict.fromkeys(((a, prompt) for a in stream), (len(calls), row))
        calls.append(rows if self._skip is None else rows.live(self._skip))

    def rows(self, i: int, part: str, wanted: Sequence[Row]) -> Past | None:
        """Of an ablation and a prompt each, in this order. None where the part keeps nothing."""
        place = self._place.get((i, part))
        return None if place is None else self._gather(i, part, [place[row] for row in wanted])

    def beginnings(self, i: int, part: str, ablations: Sequence[int]) -> tuple[Past, Tensor] | None:
        """Of prompt 0: what is kept of it, once for those who share it, and which of it each of `ablations` has."""
        place = self._place.get((i, part))
        if place is None:
            return None
        places = [place[a, 0] for a in ablations]
        distinct = sorted(set(places))
        return self._gather(i, part, distinct), self._index([distinct.index(each) for each in places])

    def _gather(self, i: int, part: str, places: Sequence[tuple[int, int]]) -> Past:
        calls = sorted({call for call, _ in places})
        found = [[row for c, row in places if c == call] for call in calls]
        parts = [self._calls[i, part][call].rows(self._index(rows)) for call, rows in zip(calls, found, strict=True)]
        if len(parts) == 1:
            return parts[0]
        order = sorted(range(len(places)), key=lambda n: places[n][0])  # stable: as the parts have them
        back = torch.empty(len(order), dtype=torch.long)
        back[order] = torch.arange(len(order))
        return parts[0].joined(parts[1:]).rows(back.to(self._device))

    def _index(self, index: Sequence[int]) -> Tensor:
        return torch.tensor(index, dtype=torch.long, device=self._device)
