"""Importance of blocks, mixers, ffns and heads from plain forward passes, measured on the stream while it passes by.

In every metric less means less important, removed first. All but the two positional ones are means over tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapters.base import Block, BlockModel, Parts
from adapters.errors import StrataError, unknown
from analysis.engine.tokens import counted, require_finite, wide


class Step(NamedTuple):
    """y = x + delta: what a block, a mixer, an ffn or a head did to the stream; (D, T, d) in fp32 or better."""

    x: Tensor
    delta: Tensor
    y: Tensor
    block: int  # its index


Moves = Iterable[tuple[Tensor, Tensor, Tensor]]  # x, delta, y of the parts of one block, in the order of `ablations.singles`


def _heads(parts: Parts, block: Block) -> Moves:
    """The stream behind the mixer, without and with each head."""
    if parts.z is None:
        raise StrataError("this architecture has no heads: measure its blocks, mixers or ffns instead")
    for head in range(parts.z.shape[2]):
        delta = wide(block.project(parts.z[:, :, head : head + 1], [head]))
        yield wide(parts.x_mid) - delta, delta, parts.x_mid


STEPS: dict[str, Callable[[Parts, Block], Moves]] = {
    "blocks": lambda p, _: [(p.x_in, wide(p.delta_mix) + wide(p.delta_ffn), p.x_out)],
    "mixers": lambda p, _: [(p.x_in, p.delta_mix, p.x_mid)],
    "ffns": lambda p, _: [(p.x_mid, p.delta_ffn, p.x_out)],
    "heads": _heads,
}


def block_influence(step: Step) -> Tensor:
    """1 - cos(x, y) (ShortGPT, arXiv 2403.03853v1, equation 2, before the expectation)."""
    return 1 - torch.cosine_similarity(step.x, step.y, dim=-1)


def relative_magnitude(step: Step) -> Tensor:
    """||f(x)|| / ||x + f(x)|| (Samragh et al., arXiv 2312.09299, as in ShortGPT v1, section 4.4)."""
    return l2(step) / norm(step)


def norm(step: Step) -> Tensor:
    """||x + f(x)||, what ShortGPT v1, section 2.2, calls the magnitude of a layer's output.

    Section 2.2 takes a larger norm as more important, and so does this; section 4.4 says of the same metric that it gives
    the reverse order. Norms grow with depth, so that is `reverse_order` here.
    """
    return torch.linalg.vector_norm(step.y, dim=-1)


def l2(step: Step) -> Tensor:
    """||f(x)||: how far the stream moves."""
    return torch.linalg.vector_norm(step.delta, dim=-1)


def sequential(step: Step) -> Tensor:
    """The index: block 0 is removed first. Table 3 of ShortGPT v1; section 4.4 has the sign the other way round."""
    return torch.full_like(step.x[..., 0], step.block)


def reverse_order(step: Step) -> Tensor:
    """Minus the index: the last block is removed first. Table 3 of ShortGPT v1, over section 4.4."""
    return -sequential(step)


Measure = Callable[[Step], Tensor]  # -> (D, T)
METRICS: dict[str, Measure] = {
    "bi": block_influence,
    "relative_magnitude": relative_magnitude,
    "norm": norm,
    "l2": l2,
    "sequential": sequential,
    "reverse_order": reverse_order,
}


@torch.inference_mode()
def measure(
    model: BlockModel,
    ids: Tensor,
    lengths: Tensor,
    metrics: Iterable[str] = ("bi",),
    *,
    kinds: Iterable[str] = ("blocks",),
    first_token: bool = True,
    compat: str | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
    """Sums over the real tokens of each document, by metric: (parts, D) in fp64, in the order of `analysis.engine.ablations.singles`.

    One pass, of which nothing is kept. `first_token` False leaves out the first token of every document, whose stream is
    often unlike all others. The last block is measured before the final norm, as any other; `compat` "paper" measures it
    behind that norm, as the paper's code did by way of Hugging Face's hidden states. Raises StrataError on an unknown
    metric or kind, and on a value that is not finite, naming block and document (by `names`, else by number).
    """
    metrics, kinds = list(metrics), list(kinds)
    check(metrics, kinds)
    if compat not in (None, "paper"):
        raise unknown("compat", compat, ("paper",))
    ids, lengths = ids.to(model.device), lengths.to(model.device)
    real, n = counted(ids, lengths, first_token), len(model.blocks)
    sums: dict[str, dict[str, list[np.ndarray]]] = {name: {kind: [] for kind in kinds} for name in metrics}

    def tap(i: int, parts: Parts) -> None:
        if compat and i == n - 1:
            parts = parts._replace(x_out=model.norm(parts.x_out))
        for kind in kinds:
            for x, delta, y in STEPS[kind](parts, model.blocks[i]):
                step = Step(wide(x), wide(delta), wide(y), i)
                for name, rows in sums.items():
                    value = METRICS[name](step).double().masked_fill(~real, 0).sum(1)
                    require_finite(value, f"{name} of block {i} of {model.spec.name}", names)
                    rows[kind].append(value.cpu().numpy())

    model.stream(ids, lengths=lengths, tap=tap)
    return {name: np.stack([row for kind in kinds for row in rows[kind]]) for name, rows in sums.items()}


def check(metrics: Iterable[str], kinds: Iterable[str]) -> None:
    """Raises StrataError on an unknown metric or kind."""
    for noun, given, valid in (("metric", metrics, METRICS), ("kind", kinds, STEPS)):
        for name in given:
            if name not in valid:
                raise unknown(noun, name, valid)
