"""Attention of one token a row through storage written in place, against attention over everything at once."""

from __future__ import annotations

import pytest
import torch

from adapters.attention import PLAIN, Attention, KeyValuePast, attend
from adapters.block import Context
from adapters.live_past import LivePast

HEADS, GROUP, WIDTH = 2, 3, 4
LENGTHS, OWNERS = [5, 2, 7, 1], [1, 0, 1, 1]


def some(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


KINDS = {
    "plain": PLAIN,
    "alibi": Attention(slopes=torch.rand(HEADS * GROUP, dtype=torch.float64)),
    "window": Attention(window=5),
    "cap": Attention(cap=0.7, scale=0.9),
    "uneven groups": Attention(reads=(0, 0, 1, 1, 1, 1)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared", [0, 6])
def test_rows_of_different_lengths_behind_shared_beginnings(shared: int, kind: str) -> None:
    torch.manual_seed(0)
    begun = LivePast(some(2, HEADS, shared, WIDTH), some(2, HEADS, shared, WIDTH), torch.full((2,), shared), shared)
    parts = [LivePast(some(1, HEADS, n, WIDTH), some(1, HEADS, n, WIDTH), torch.tensor([n]), n) for n in LENGTHS]
    keys = [
        [torch.cat([t[o], getattr(p, name)[0]], 1) for p, o in zip(parts, OWNERS, strict=True)]
        for name, t in (("k", begun.k), ("v", begun.v))
    ]
    past, rows = parts[0].joined(parts[1:]), [0, 1, 2, 3]
    for step in range(70):  # more than there is room for at first
        if step == 40:  # a row goes, the others change places
            rows = [3, 0, 2]
            past = past.rows(torch.tensor(rows)).joined([])
        if shared:
            past = past.behind(begun, torch.tensor([OWNERS[r] for r in rows]))
        q, k, v = some(len(rows), HEADS * GROUP, 1, WIDTH), some(len(rows), HEADS, 1, WIDTH), some(len(rows), HEADS, 1, WIDTH)
        out, past = past.attend(q, k, v, KINDS[kind])
        for n, r in enumerate(rows):
            for texts, new in zip(keys, (k, v), strict=True):
                texts[r] = torch.cat([texts[r], new[n]], 1)
            held = KeyValuePast(*(t[r][None, :, :-1] for t in keys), torch.tensor([keys[0][r].shape[1] - 1]))
            (expected,), _ = attend(q[n : n + 1], k[n : n + 1], v[n : n + 1], Context(documents=1), held, KINDS[kind])
            assert torch.allclose(out[n], expected, atol=1e-12)
