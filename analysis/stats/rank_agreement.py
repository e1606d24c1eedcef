"""Do cheap metrics order blocks as the causal effect does, and how far can any order be trusted?

Scores are sums per document, so that documents can be drawn again. Everything is fp64 and seeded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from analysis.stats.bootstrap import Array
from analysis.stats.estimates import estimate
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, Interval, p_values


class Scores(NamedTuple):
    """One score of every item (block, head ...) on documents."""

    sums: Array  # (items, D)
    tokens: Array  # (D,)

    def means(self, documents: Array) -> Array:
        """Means per token over `documents` (..., n), indices that may repeat: (..., items)."""
        totals = self.sums[:, documents].sum(-1, dtype=np.float64)  # (items, ...)
        return np.moveaxis(totals / self.tokens[documents].sum(-1), 0, -1)

    @property
    def all(self) -> Array:
        return np.arange(len(self.tokens))


def tau_b(a: Array, b: Array) -> Array:
    """Kendall's tau-b along the last axis; 0 where a score is constant. Kendall (1945)."""
    i, j = np.triu_indices(a.shape[-1], 1)
    x, y = np.sign(a[..., i] - a[..., j]), np.sign(b[..., i] - b[..., j])
    return _over((x * y).sum(-1), np.sqrt((x**2).sum(-1) * (y**2).sum(-1)))


def spearman(a: Array, b: Array) -> Array:
    """Spearman's rho along the last axis, ties at their mean rank; 0 where a score is constant."""
    x, y = (ranks - ranks.mean(-1, keepdims=True) for ranks in (stats.rankdata(a, axis=-1), stats.rankdata(b, axis=-1)))
    return _over((x * y).sum(-1), np.sqrt((x**2).sum(-1) * (y**2).sum(-1)))


STATISTICS: dict[str, Callable[[Array, Array], Array]] = {"kendall": tau_b, "spearman": spearman}


def agreement(a: Scores, b: Scores, statistic: str = "kendall", *, paired: bool, seed: int = 0) -> Interval:
    """Rank correlation of two scores of the same items, with its interval over documents (`Estimate.interval`).

    `paired`: both are of the same documents in the same order, which are then drawn together; else each set is drawn on
    its own. Noise in the scores pulls the value towards no agreement (see `reliability`): the interval is about what so many
    documents show, which is nearer to zero than the agreement of what they are samples of. Raises ValueError when items, or
    paired documents, do not match.
    """
    measure = STATISTICS[statistic]
    return _interval(lambda da, db: measure(a.means(da), b.means(db)), [a, b], 1, paired=paired, seed=seed)


def gap(a: Scores, b: Scores, effect: Scores, statistic: str = "kendall", *, paired: bool, seed: int = 0) -> Interval:
    """How much better `a` orders the items as `effect` does than `b`; metrics are of the same documents.

    `paired`: and so is `effect`.
    """
    _check(a, b, paired=True)
    measure = STATISTICS[statistic]

    def difference(documents: Array, held_out: Array) -> Array:
        means = effect.means(held_out)
        return measure(a.means(documents), means) - measure(b.means(documents), means)

    return _interval(difference, [a, effect], 2, paired=paired, seed=seed)


def _interval(of: Callable[[Array, Array], Array], scores: Sequence[Scores], most: int, *, paired: bool, seed: int) -> Interval:
    """`of` draws of both sets of documents, which are one where they are paired; it lies between -most and most."""
    _check(*scores, paired=paired)
    sets = [len(s.tokens) for s in scores[: 1 if paired else 2]]
    return estimate(lambda *draws: of(draws[0], draws[-1]), *sets, seed=seed).interval.within(-most, most)


def chance(tau: float, n_items: int) -> float:
    """Probability that a random order of `n_items` without ties has a Kendall tau at least as far from 0 (Kendall, 1938)."""
    p = np.ones(1)  # of each number of inversions
    for k in range(2, n_items + 1):
        p = np.convolve(p, np.full(k, 1 / k))
    taus = 1 - 2 * np.arange(len(p)) / max(1, len(p) - 1)
    return float(min(1.0, p[np.abs(taus) >= abs(tau) - 1e-9].sum()))


def reliability(
    scores: Scores, statistic: str = "kendall", *, splits: int = 100, spearman_brown: bool = False, seed: int = 0
) -> float | None:
    """Mean rank correlation between two random halves of the documents; None with fewer documents than an interval needs.

    It speaks of half the documents. `spearman_brown` steps it up to all of them, 2r / (1 + r), which is exact for
    correlations of values and a rule of thumb for ranks (Spearman, 1910; Brown, 1910).
    """
    n = len(scores.tokens)
    if n < MIN_DOCUMENTS_FOR_CI:
        return None
    shuffled = _shuffled(n, splits, seed)
    r = float(STATISTICS[statistic](scores.means(shuffled[:, : n // 2]), scores.means(shuffled[:, n // 2 :])).mean())
    return 2 * r / (1 + r) if spearman_brown else r


def removal_order(values: Array) -> list[int]:
    """Items from the least important on; of equal ones the first comes first."""
    return np.argsort(values, kind="stable").tolist()


def stability(orders: Mapping[str, Array], k: int) -> pd.DataFrame:
    """How alike the removal orders of several corpora or seeds are: name -> importance of every item.

    One row for each pair: share of the `k` least important items that they have in common, what chance gives (k / items),
    and Kendall's tau. Raises ValueError when `k` is not between 1 and the number of items.
    """
    items = {len(values) for values in orders.values()}
    if len(items) != 1 or not 1 <= k <= min(items):
        raise ValueError(f"k = {k} must lie between 1 and the number of items, which must be the same in all orders ({sorted(items)})")
    rows = []
    for (a, x), (b, y) in combinations(orders.items(), 2):
        common = set(removal_order(x)[:k]) & set(removal_order(y)[:k])
        rows.append((a, b, k, len(common) / k, k / len(x), float(tau_b(x, y))))
    return pd.DataFrame(rows, columns=["a", "b", "k", "overlap", "chance", "tau"])


def resolution(scores: Scores, documents: Sequence[int], *, rate: float = 0.05, repeats: int = 20, seed: int = 0) -> pd.DataFrame:
    """How many pairs of items a number of documents tells apart: n_documents, all, adjacent (shares, mean over draws).

    A pair is told apart by a t-test on its paired difference, Benjamini and Hochberg (1995) over all pairs. Adjacent pairs are
    neighbours in the order that all documents give. Each point is a mean over `repeats` random draws without replacement.
    Raises ValueError for numbers of documents that cannot be had.
    """
    n = len(scores.tokens)
    if bad := [m for m in documents if not MIN_DOCUMENTS_FOR_CI <= m <= n]:
        raise ValueError(f"{bad[0]} documents: between {MIN_DOCUMENTS_FOR_CI} and the {n} that were scored can be had")
    place = np.argsort(removal_order(scores.means(scores.all)))
    i, j = np.triu_indices(len(scores.sums), 1)
    adjacent = np.abs(place[i] - place[j]) == 1
    rows = []
    for m in documents:
        draws = [_told_apart(scores, draw, i, j) <= rate for draw in _shuffled(n, 1 if m == n else repeats, seed)[:, :m]]
        rows.append((m, float(np.mean(draws)), float(np.mean([significant[adjacent] for significant in draws]))))
    return pd.DataFrame(rows, columns=["n_documents", "all", "adjacent"])


def documents_needed(curve: pd.DataFrame, share: float = 0.95, pairs: str = "adjacent") -> int | None:
    """The fewest documents of `resolution`'s curve that tell this share of pairs apart; None: more than were scored."""
    enough = curve[curve[pairs] >= share]["n_documents"]
    return int(enough.min()) if len(enough) else None


def _told_apart(scores: Scores, documents: Array, i: Array, j: Array) -> Array:
    """Adjusted p-values of all pairs (i, j)."""
    sums, tokens = scores.sums[:, documents], scores.tokens[documents]
    return stats.false_discovery_control(p_values(sums[i] - sums[j], tokens), method="bh")


def _shuffled(n: int, times: int, seed: int) -> Array:
    return np.random.default_rng(seed).permuted(np.tile(np.arange(n), (times, 1)), axis=1)


def _check(*scores: Scores, paired: bool) -> None:
    if len({len(s.sums) for s in scores}) > 1:
        raise ValueError(f"scores of different items: {', '.join(str(len(s.sums)) for s in scores)} of them")
    if paired and len({len(s.tokens) for s in scores}) > 1:
        raise ValueError(f"paired scores of different documents: {', '.join(str(len(s.tokens)) for s in scores)} of them")


def _over(a: Array, b: Array) -> Array:
    return np.divide(a, b, out=np.zeros_like(np.asarray(b, dtype=np.float64)), where=b > 0)
