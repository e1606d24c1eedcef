"""What a report says in words: functions of numbers, which claim no more than the intervals allow.

Block indices are 0-based and sets are printed in full. Losses are in nats per token, intervals are 95 %.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.display.format import bounded, capital, count, listed, named, number
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, Array, Interval, differing_pairs
from analysis.stats.rank_agreement import chance, documents_needed

NOUNS = {"blocks": "block", "mixers": "mixer", "ffns": "ffn", "heads": "head", "experts": "expert"}
NUMBERED = ("heads", "experts")  # kinds of which a block has many; the column of their number is their noun
RATE = "(false discovery rate 5\u00a0%)"


def too_few(n_documents: int) -> str:
    """Why there is no interval."""
    if n_documents < MIN_DOCUMENTS_FOR_CI:
        return f"too few documents for an interval ({n_documents} of at least {MIN_DOCUMENTS_FOR_CI})"
    return f"no interval could be computed from {n_documents} documents"


def not_known(question: str, n_documents: int) -> str:
    """`question`: "whether the orders differ"; the sentence without its full stop."""
    return f"{question} is not known: {too_few(n_documents)}"


def intervals(n_documents: int, what: str = "bars", of: str = "document") -> str:
    """What the bars (or bands) of a figure are, or why there are none; a sentence for captions."""
    if n_documents < MIN_DOCUMENTS_FOR_CI:
        return f"No {what}: {too_few(n_documents)}."
    return f"{capital(what)} are 95\u00a0% intervals over {count(n_documents, of)}."


class Verdict(NamedTuple):
    """Which candidate has the lowest loss, as far as the documents show."""

    leaders: tuple[str, ...]  # of the lowest loss; several where they are the same model
    rivals: tuple[str, ...]  # not significantly different from the lowest, in ascending order; none: the leaders win
    n_documents: int

    @classmethod
    def of(cls, losses: Mapping[str, Array], differing: Collection[frozenset[str]]) -> Verdict:
        """From sums (documents,) by name, and the pairs that differ significantly (`analysis.stats.intervals.differing_pairs`)."""
        first, *others = sorted(losses, key=lambda name: losses[name].sum())
        same = [name for name in others if np.array_equal(losses[name], losses[first])]
        rivals = [name for name in others if name not in same and frozenset((first, name)) not in differing]
        return cls((first, *same), tuple(rivals), len(losses[first]))

    @property
    def known(self) -> bool:
        return self.n_documents >= MIN_DOCUMENTS_FOR_CI

    def ending(self, than: str, question: str, others: str = "every other") -> str:
        """The end of a sentence on the leaders: `than` "lower than", `question` "whether the methods differ"."""
        if not self.known:
            return f". {capital(not_known(question, self.n_documents))}"
        return f", but not significantly {than} {listed(self.rivals)}" if self.rivals else f", significantly {than} {others}"


def verdicts(tokens: Array, *contests: Mapping[str, Array]) -> list[Verdict]:
    """Of each contest, losses (documents,) by name: paired t-tests, false discoveries held to 5 % over all pairs of all contests."""
    return [Verdict.of(losses, pairs) for losses, pairs in zip(contests, differing_pairs(tokens, *contests), strict=True)]


class Effect(NamedTuple):
    """A difference of losses, or of anything else that documents vary."""

    size: Interval
    significant: bool
    n_documents: int

    def say(self, question: str, above: str, below: str, neither: str, write: Callable[[Interval], str] = bounded) -> str:
        """One of three sentences, by where it lies; {} of `below` is without its sign, which the sentence has."""
        value, low, high = self.size
        if low is None or high is None:
            return f"{capital(not_known(question, self.n_documents))}."
        if self.significant and value < 0:
            return below.format(write(Interval(-value, -high, -low)))
        return (above if self.significant else neither).format(write(self.size))


def share(some: int, every: int, kind: str) -> str:
    """ "4 of 12 blocks"; all, or none of them."""
    return f"{'none of the' if not some else 'all' if some == every > 1 else f'{some} of'} {every:,} {kind}"


def labels(parts: pd.DataFrame, kind: str) -> list[str]:
    """How parts are named, from their columns block and, where a block has many, head or expert: "3", or "3.5"."""
    if kind not in NUMBERED:
        return [str(block) for block in parts["block"]]
    return [f"{block}.{number}" for block, number in zip(parts["block"], parts[NOUNS[kind]], strict=True)]


def lowest(found: str, rivals: Collection[object], of: Interval, n_documents: int, noun: str, more: str, as_little: str) -> str:
    """`found` names the lowest of several, `of` is its interval, and `rivals` are those whose intervals overlap with it."""
    if n_documents < MIN_DOCUMENTS_FOR_CI:
        return f"{found}. {capital(not_known(f'whether others {as_little}', n_documents))}."
    found += f" (95\u00a0% interval {number(of.low)} to {number(of.high)})."
    return f"{found} By their intervals others may {as_little}: {named(noun, rivals)}." if len(rivals) else f"{found} Every other {more}."


def agreement_sentence(tau: Interval, metric: str, *, n_blocks: int, n_documents: int) -> str:
    """Whether `metric` orders blocks as the rise in loss without them does; `tau`: Kendall's, its interval over documents.

    Support needs two things: an interval without zero (other documents would say the same) and a tau that a random
    order of `n_blocks` blocks seldom reaches (5 %), since an interval over documents says nothing about chance.
    """
    found = f"Kendall's tau between {metric} and the rise in loss is {number(tau.value)} over {count(n_blocks, 'block')}"
    if tau.low is None or tau.high is None:
        return f"{found}. {capital(not_known('whether they agree', n_documents))}."
    found += f" (95\u00a0% interval {number(tau.low)} to {number(tau.high)})"
    p = chance(tau.value, n_blocks)
    if tau.low <= 0 <= tau.high:
        return f"{found}. The agreement is not significant: the interval includes zero."
    if p > 0.05:
        return f"{found}. The agreement is not significant: a random order agrees as well with probability {number(p)}."
    return f"{found}. {'They agree significantly' if tau.value > 0 else 'Their orders are significantly opposed'}."


def best_metric(taus: Mapping[str, Interval], gaps: Mapping[str, Interval], *, n_documents: int) -> str:
    """Which metric orders blocks most as the rise in loss does; a winner only when it beats every other.

    `taus`: Kendall's tau of each metric with the rise in loss. `gaps`: the highest tau minus each other's, over
    the same documents (`analysis.stats.rank_agreement.gap`). Raises ValueError when `gaps` are not of all other metrics.
    """
    leader = max(taus, key=lambda name: taus[name].value)
    if set(gaps) != set(taus) - {leader}:
        raise ValueError(f"gaps are needed between {leader} and every other metric")
    first = f"{leader} has the highest tau with the rise in loss ({number(taus[leader].value)})"
    if any(bound is None for bound in (*taus[leader], *(bound for gap in gaps.values() for bound in gap))):
        return f"{first}. {capital(not_known('whether it is the best metric', n_documents))}."
    if not (taus[leader].low or 0) > 0:
        return (
            f"No metric agrees significantly with the rise in loss, not even {leader}, whose tau is highest ({number(taus[leader].value)})."
        )
    if not gaps:
        return f"{first}; no other metric was measured."
    rivals = tuple(name for name, gap in gaps.items() if not (gap.low or 0) > 0)
    return f"{first}{Verdict((leader,), rivals, n_documents).ending('higher than', '', f'every other ({listed(gaps)})')}."


def reliability_sentence(r: float | None, what: str, *, n_documents: int, statistic: str = "Kendall's tau") -> str:
    """How much of an order is the documents' accident: little from 0.9 on, most below 0.5, by rule of thumb.

    `what`: "order the blocks by BI". `r`: `analysis.stats.rank_agreement.reliability`, not stepped up.
    """
    if r is None:
        return f"{capital(not_known(f'how consistently documents {what}', n_documents))}."
    found = f"Two halves of the documents ({n_documents // 2} each) {what} with a mean {statistic} of {number(r)}"
    if r >= 0.9:
        return f"{found}: the order hardly depends on the documents."
    return f"{found}: {'part' if r >= 0.5 else 'most'} of the order is noise, which lowers its agreement with every other order."


def order_sentence(curve: pd.DataFrame, score: str, share: float = 0.95) -> str:
    """How many documents a resolved order needs; `curve`: `analysis.stats.rank_agreement.resolution`, empty with too few documents."""
    if curve.empty:
        return f"Whether the order by {score} is resolved is not known: too few documents (at least {MIN_DOCUMENTS_FOR_CI} are needed)."
    last = curve.iloc[int(curve["n_documents"].argmax())]
    near, every = (f"{100 * last[pairs]:.0f}\u00a0%" for pairs in ("adjacent", "all"))
    found = (
        f"With {last['n_documents']:.0f} documents, {near} of the pairs of neighbours in the order by {score} differ significantly, and "
        f"{every} of all pairs"
    )
    n = documents_needed(curve, share)
    return f"{found}: the order is {'not resolved' if n is None else f'resolved from {n} documents on'}."
