"""What a sweep must run at least, counted by brute force: the distinct histories of all ablations, written out in full."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from adapters import NONE, Ablation


def mixer_runs(n_blocks: int, ablations: Iterable[Ablation], shapes: Sequence[str] | None = None) -> int:
    """How many different streams meet a mixer that runs on them; `shapes` of the blocks as in `toys.MODELS`, all in sequence by default."""
    shapes = shapes or ["sequence"] * n_blocks
    runs = {(i, _history(a, i)) for a in {NONE, *ablations} for i in range(n_blocks) if i not in a.blocks | a.mixers}
    return sum(shapes[i] != "ffn" for i, _ in runs)


def ffn_runs(n_blocks: int, ablations: Iterable[Ablation], shapes: Sequence[str] | None = None) -> int:
    shapes = shapes or ["sequence"] * n_blocks
    runs = {
        (i, _history(a, i), None if shapes[i] == "parallel" else _mixer(a, i))
        for a in {NONE, *ablations}
        for i in range(n_blocks)
        if i not in a.blocks | a.ffns
    }
    return sum(shapes[i] != "mixer" for i, _, _ in runs)


def _history(ablation: Ablation, i: int) -> tuple:
    """All that happened to a stream before it enters block `i`."""
    return tuple((_mixer(ablation, j), j in ablation.blocks | ablation.ffns, _experts(ablation, j)) for j in range(i))


def _experts(ablation: Ablation, i: int) -> frozenset:
    return frozenset(e for b, e in ablation.experts if b == i)


def _mixer(ablation: Ablation, i: int) -> tuple | None:
    """None where it is out, else the heads that are."""
    return None if i in ablation.blocks | ablation.mixers else tuple(sorted(h for b, h in ablation.heads if b == i))
