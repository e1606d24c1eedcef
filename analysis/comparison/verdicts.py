"""What a comparison says in words: about these models, and about their architectures only where the seeds allow it.

Documents tell models apart. That is no word about architectures: other seeds, trained alike, would have to repeat it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from analysis.comparison.redundancy import Summary
from analysis.conclusions import too_few
from analysis.figures import bounded, number
from analysis.statistics import ENOUGH, Interval

SEEDS = 3  # of each side, from which on architectures can be spoken of
NO_MARGIN = "a model that is no better than a byte unigram has nothing to lose"


class Side(NamedTuple):
    """One side of a comparison: a model, or the seeds of an architecture."""

    name: str
    values: tuple[float, ...]  # of each seed


def difference(summary: Summary, a: Side, b: Side, gap: Interval, *, told: bool, matched: str, n_documents: int) -> str:
    """Does a summary differ between two sides, and is that one of models or of architectures?

    `gap`: mean of a minus mean of b, paired over documents; `told`: it can be told from zero. `matched`: what they were
    matched by in a controlled training ("equal tokens", "equal loss"); empty if they were not.
    """
    if not np.isfinite([*a.values, *b.values]).all():
        return f"{_capital(summary.title)} cannot be compared: {NO_MARGIN}."
    found = f"{_capital(summary.title)}: {_mean(a)} for {a.name}, {_mean(b)} for {b.name}"
    if n_documents < ENOUGH:
        return f"{found}. Whether they differ is open: {too_few(n_documents)}."
    found += f"; difference {bounded(gap)}."
    if not told:
        return f"{found} These documents do not tell them apart."
    high, low = (a, b) if gap.value > 0 else (b, a)
    if min(high.values) <= max(low.values):
        return f"{found} The seeds disagree: one of {low.name} reaches one of {high.name}, so no difference is supported."
    said = f"{found} {summary.higher.format(high.name)}"
    if min(len(a.values), len(b.values)) < SEEDS:
        few = f"{len(a.values)} and {len(b.values)} here"
        return f"{said}. That is about {_these(a, b)}, not about architectures, for which {SEEDS} seeds of each are needed ({few})."
    if not matched:
        return f"{said}, in every seed. They were not trained alike, so the architecture is not the only difference."
    p = _between_seeds(high.values, low.values)
    if p > 0.05:
        return f"{said}. That is about these models; seeds vary too much to say it of the architectures (p = {number(p)} over seeds)."
    return f"{said}: a difference of the architectures as they were trained here, at {matched} (p = {number(p)} over seeds)."


def spread(name: str, summary: Summary, values: Sequence[float], document: Interval) -> str:
    """How far seeds lie apart, beside what other documents would change; `document`: interval of the mean over seeds."""
    if len(values) < 2 or not np.isfinite(values).all():
        return ""
    found = f"{_capital(summary.title)} of {name}: {len(values)} seeds lie between {number(min(values))} and {number(max(values))}"
    if document.low is None or document.high is None:
        return f"{found}."
    width = document.high - document.low
    more = "farther apart than" if max(values) - min(values) > width else "within the width of"
    return f"{found}, {more} the interval over documents (width {number(width)})."


def controlled(pairs: Sequence[tuple[str, str, str]]) -> str:
    """Which of the compared sides differ in their architecture alone; `pairs`: names, and what they were matched by."""
    alike = [f"{a} and {b} ({by})" for a, b, by in pairs if by]
    others = [f"{a} and {b}" for a, b, by in pairs if not by]
    said = [f"Trained alike, so that the architecture is what differs: {'; '.join(alike)}."] if alike else []
    if others:
        said.append(f"Not trained alike, so that data, size and budget may be what differs: {'; '.join(others)}.")
    return " ".join(said)


def over_training(name: str, summary: Summary, first: int, last: int, growth: Interval, *, told: bool, n_documents: int) -> str:
    """Does redundancy grow as a model learns? `growth`: the summary after step `last` less that after step `first`."""
    found = f"From step {first:,} to step {last:,} of {name} the {summary.title} changes by {bounded(growth)}"
    if not np.isfinite(growth.value):
        return f"Whether redundancy of {name} grows while it learns cannot be said: {NO_MARGIN}."
    if n_documents < ENOUGH:
        return f"{found}. Whether redundancy grows is open: {too_few(n_documents)}."
    if not told:
        return f"{found}. A change is not supported."
    return (
        f"{found}: by this measure {name} becomes {'more' if growth.value * summary.redundant > 0 else 'less'} redundant while it learns."
    )


def equally(a: str, b: str, summary: Summary, gap: Interval, *, told: bool, n_documents: int) -> str:
    """Does it change equally in two trainings? `gap`: change of a less change of b. One training of each: no architectures."""
    if not np.isfinite(gap.value):
        return ""
    found = f"The {summary.title} changes by {bounded(gap)} more in {a} than in {b}"
    if n_documents < ENOUGH:
        return f"{found}. Whether that is a difference is open: {too_few(n_documents)}."
    if not told:
        return f"{found}: these documents do not tell the two trainings apart."
    return f"{found}. That is about these two trainings, not about architectures."


def _between_seeds(high: Sequence[float], low: Sequence[float]) -> float:
    """Welch's t-test over seeds, two-sided; 0 where no side varies."""
    if np.ptp(high) == 0 and np.ptp(low) == 0:
        return 0.0
    return float(stats.ttest_ind(high, low, equal_var=False).pvalue)


def _mean(side: Side) -> str:
    return number(float(np.mean(side.values)))


def _these(a: Side, b: Side) -> str:
    return "these two models" if len(a.values) == len(b.values) == 1 else f"these {len(a.values) + len(b.values)} models"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
