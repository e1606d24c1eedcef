"""How much is worked on at once: what is fast on a device, and less where memory is short."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Pieces(NamedTuple):
    """More of anything is not faster. Bytes are at most so many: a small model takes fewer."""

    tokens: int  # in one call of a block: enough to reuse its weights, few enough for a CPU's cache
    rows: int  # tokens whose logits are made while the head's weights go by once
    block: int  # bytes of a block of logits, which stays in a CPU's cache; a GPU wants large ones
    reference: int  # bytes of the dense model's logits that others are compared with at once
    past: int  # bytes of what is kept of tokens in one call of a block

    def halved(self) -> Pieces:
        return Pieces(*(max(1, n // 2) for n in self))


PIECES = {
    "cpu": Pieces(tokens=1024, rows=1024, block=4 << 20, reference=64 << 20, past=64 << 20),
    "cuda": Pieces(tokens=32768, rows=8192, block=512 << 20, reference=1 << 30, past=4 << 30),
}


def pieces_of(device: torch.device) -> Pieces:
    """What is fastest."""
    return PIECES.get(device.type, PIECES["cpu"])
