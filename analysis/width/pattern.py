"""Is there a pattern in what single heads cost: by depth, by block, or by place in the group (paper, section 4.2)?"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from adapters.specs import ModelSpec
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, Array
from analysis.stats.rank_agreement import Scores

TIMES = 2000  # permutations, and flips of signs
COLUMNS = ["pattern", "effects", "explained", "chance", "p_layout", "p_documents"]


def places(spec: ModelSpec) -> tuple[Array, Array]:
    """Block of every head, and its place among the heads that share a key-value head, or in its block where none do."""
    blocks, positions = [], []
    for i, block in enumerate(spec.blocks):
        n = block.n_heads or 0
        size = n // block.n_kv_heads if block.n_kv_heads else n
        blocks += [i] * n
        positions += [head % (size if size > 1 else n) for head in range(n)]
    return np.array(blocks), np.array(positions)


class Design(NamedTuple):
    """A pattern that head effects may have."""

    basis: Array  # (heads, k), orthonormal: what it can explain
    centre: Callable[[Array], Array]  # takes out of (..., heads) what it is not about
    deals: Array  # (TIMES, heads): the head whose effect each place gets, at random


def patterns(rises: Scores, blocks: Array, positions: Array, *, seed: int = 0) -> pd.DataFrame:
    """Which share of the variance of head effects depth (a line), block and position in the group explain: COLUMNS.

    Once for all effects, once with extreme ones (beyond three times the interquartile range) brought in to that border,
    since one head may outweigh all others. `chance` is the mean share when effects are dealt out at random (for depth whole
    blocks, for position within each block, from which the block's mean is taken), and `p_layout` how often such a deal
    explains as much. Noise that the heads of a block share makes a pattern too: `p_documents` is how often the documents'
    differences from one common effect explain as much when each document's sign is drawn at random; NaN with fewer
    documents than an interval needs. A pattern must pass both.
    """
    rng = np.random.default_rng(seed)
    effects = rises.means(rises.all)
    low, high = np.quantile(effects, [0.25, 0.75])
    clipped = np.clip(effects, low - 3 * (high - low), high + 3 * (high - low))
    signs = rng.choice([-1.0, 1.0], (TIMES, len(rises.tokens)))
    noise = signs @ (rises.sums - rises.sums.mean(0)).T / rises.tokens.sum()  # (TIMES, heads)
    rows = []
    for name, design in _designs(blocks, positions, rng).items():
        flipped = _squares(design.centre(noise), design.basis)
        for version, values in (("all", effects), ("without extremes", clipped)):
            y = design.centre(values)
            explained, total = float(_squares(y, design.basis)), float((y**2).sum()) or 1.0
            dealt = _squares(y[design.deals], design.basis)
            p_documents = _p(explained, flipped) if len(rises.tokens) >= MIN_DOCUMENTS_FOR_CI else np.nan
            rows.append((name, version, explained / total, float(dealt.mean()) / total, _p(explained, dealt), p_documents))
    return pd.DataFrame(rows, columns=COLUMNS)


def _designs(blocks: Array, positions: Array, rng: np.random.Generator) -> dict[str, Design]:
    heads = np.arange(len(blocks))[:, None]
    by_block = [np.flatnonzero(blocks == b) for b in np.unique(blocks)]
    alike = [np.stack([h for h in by_block if len(h) == size]) for size in sorted({len(h) for h in by_block})]
    one = _indicator(blocks)
    mean = one / one.sum(0)

    def within(y: Array) -> Array:
        return y - (y @ mean) @ one.T

    return {
        "depth": Design(_basis(_mean_free(blocks.astype(float)[None])), _mean_free, _deals(alike, rng)),
        "block": Design(_basis(_mean_free(one.T)), _mean_free, _deals([heads], rng)),
        "position": Design(_basis(within(_indicator(positions).T)), within, _deals([h[:, None] for h in by_block], rng)),
    }


def _mean_free(y: Array) -> Array:
    return y - y.mean(-1, keepdims=True)


def _indicator(labels: Array) -> Array:
    """(heads, labels)"""
    return (labels[:, None] == np.unique(labels)).astype(float)


def _basis(directions: Array) -> Array:
    """Orthonormal directions (heads, k) that `directions` (n, heads) span."""
    u, s, _ = np.linalg.svd(directions.T, full_matrices=False)
    return u[:, s > 1e-9]


def _squares(y: Array, basis: Array) -> Array:
    """Sum of squares of y (..., heads) that `basis` explains."""
    return ((y @ basis) ** 2).sum(-1)


def _deals(exchangeable: list[Array], rng: np.random.Generator) -> Array:
    """Heads (TIMES, heads) at random places: the rows of each of `exchangeable` (units, heads of a unit) change places."""
    out = np.empty((TIMES, sum(units.size for units in exchangeable)), dtype=int)
    for units in exchangeable:
        dealt = rng.permuted(np.tile(np.arange(len(units)), (TIMES, 1)), axis=1)
        out[:, units.ravel()] = units[dealt].reshape(TIMES, -1)
    return out


def _p(found: float, null: Array) -> float:
    """How often chance does as well, the found one counted as one such case."""
    return float((1 + (null >= found * (1 - 1e-9)).sum()) / (1 + len(null)))
