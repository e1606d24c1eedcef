"""What texts of a model without some of its parts say, in words that claim no more than the intervals allow."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from analysis.display.format import bounded, capital, count, escape, listed, percent
from analysis.display.sentences import NOUNS, RATE, not_known, share
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, Interval

HALF = 0.5


def single_parts(rows: pd.DataFrame, kind: str = "blocks") -> str:
    """How far texts without one part agree with the unpruned model's, and whether their loss under it differs.

    `rows`: kind, block, head, metric, value, ci_low, ci_high, n_documents, significant; those of other kinds are passed over.
    """
    noun, parts = NOUNS[kind], rows[rows["kind"] == kind]
    agreed = parts[parts["metric"] == "agreement"]
    n = int(agreed["n_documents"].min())
    names = [f"{row.block}.{row.head}" if kind == "heads" else f"{row.block}" for row in agreed.itertuples()]
    most, least = (int(place) for place in (agreed["value"].argmax(), agreed["value"].argmin()))
    ends = [f"without {noun} {names[place]} ({bounded(_interval(agreed.iloc[place]))})" for place in (most, least)]
    found = (
        f"Without a single {noun}, {percent(agreed['value'].median())} of the tokens agree with the unpruned model's text (median over "
        f"{kind}): most {ends[0]}, fewest {ends[1]}."
    )
    if n < MIN_DOCUMENTS_FOR_CI:
        return f"{found} {capital(not_known('whether the loss of these texts differs', n))}."
    told = agreed["significant"]
    return (
        f"{found} The loss of the text under the unpruned model differs significantly from that of its own for "
        f"{share(int(told.sum()), len(agreed), kind)} {RATE}."
    )


def as_blocks_go(left: pd.DataFrame, n_blocks: int) -> str:
    """When significantly less than half is left of each measure, in the order in which they fall.

    `left`: order (the measure), removed, value, ci_low, ci_high (all NaN where it is not known how much the unpruned model has).
    """
    fallen: dict[str, float] = {}
    kept, unknown, few = [], [], []
    for name, rows in left.groupby("order", sort=False):
        below = rows[(rows["ci_high"] < HALF) & (rows["removed"] > 0)]["removed"]
        if rows["value"].isna().all():
            unknown.append(escape(name))
        elif rows["ci_high"].isna().all():
            few.append(escape(name))
        elif below.empty:
            kept.append(escape(name))
        else:
            fallen[escape(name)] = float(below.min())
    said = "; ".join(f"{name} from {at:g} of {n_blocks} blocks on" for name, at in sorted(fallen.items(), key=lambda item: item[1]))
    return " ".join(
        sentence
        for names, sentence in (
            (fallen, f"By Block Influence, less than half is left of {said}, significantly."),
            (kept, f"Of {listed(kept)} no set that was tried leaves significantly less than half."),
            (unknown, f"What is left of {listed(unknown)} is not known: the unpruned model is not significantly better than guessing."),
            (few, f"Whether less than half is left of {listed(few)} is not known: too few documents for intervals."),
        )
        if names
    )


def repetition(rises: Mapping[float, Interval], n_prompts: int) -> str:
    """Does text repeat itself more as blocks go? `rises`: of the share of tokens in loops, by blocks removed, paired over prompts."""
    if n_prompts < MIN_DOCUMENTS_FOR_CI:
        return f"{capital(not_known('whether texts repeat themselves more', n_prompts))}."
    more = [n for n, rise in rises.items() if rise.low is not None and rise.low > 0]
    less = [n for n, rise in rises.items() if rise.high is not None and rise.high < 0]
    said = []
    for sets, word in ((more, "larger"), (less, "smaller")):
        if sets:
            first = min(sets)
            among = f", and in {len(sets)} of {len(rises)} sets" if len(sets) > 1 else ""
            said.append(
                f"The share of tokens in loops is {word} than in the unpruned model's texts after removing {count(first, 'block')} "
                f"(by {bounded(rises[first])}){among}."
            )
    return " ".join(said) or f"Texts do not repeat themselves detectably more or less after removing {_up_to(rises)}."


def _up_to(rises: Mapping[float, Interval]) -> str:
    return count(min(rises), "block") if len(rises) == 1 else f"{min(rises):g} to {max(rises):g} blocks"


def _interval(row: pd.Series) -> Interval:
    low, high = (None if pd.isna(row[name]) else float(row[name]) for name in ("ci_low", "ci_high"))
    return Interval(float(row["value"]), low, high)
