"""What texts of a model without some of its parts say, in words that claim no more than the intervals allow."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from analysis.display.format import bounded, capital, count, percent
from analysis.display.sentences import RATE, not_known, share
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, Interval

HALF = 0.5


def single_blocks(rows: pd.DataFrame) -> str:
    """How far texts without one block agree with the unpruned model's, and whether their loss under it differs.

    `rows`: block, metric, value, ci_low, ci_high, n_documents, significant; those of the dense model are passed over.
    """
    blocks = rows[rows["kind"] == "blocks"]
    agreed = blocks[blocks["metric"] == "agreement"].astype({"block": int})
    n = int(agreed["n_documents"].min())
    most, least = (agreed.iloc[int(place)] for place in (agreed["value"].argmax(), agreed["value"].argmin()))
    found = (
        f"Without a single block, {percent(agreed['value'].median())} of the tokens agree with the unpruned model's text (median over "
        f"blocks): most without block {most['block']} ({bounded(_interval(most))}), fewest without block {least['block']} "
        f"({bounded(_interval(least))})."
    )
    if n < MIN_DOCUMENTS_FOR_CI:
        return f"{found} {capital(not_known('whether the loss of these texts differs', n))}."
    told = agreed["significant"]
    return (
        f"{found} The loss of the text under the unpruned model differs significantly from that of its own for "
        f"{share(int(told.sum()), len(agreed), 'blocks')} {RATE}."
    )


def as_blocks_go(kept: pd.DataFrame, n_blocks: int, n_prompts: int) -> str:
    """When less than half is kept of each measure, in the order in which they fall. `kept`: order (the measure), removed, value."""
    fallen: dict[str, float | None] = {}
    for name, rows in kept.groupby("order", sort=False):
        below = rows[(rows["value"] < HALF) & (rows["removed"] > 0)]["removed"]
        if rows["value"].notna().all():
            fallen[str(name)] = None if below.empty else float(below.min())
    said = [
        f"{name} from {at:g} of {n_blocks} blocks on" for name, at in sorted(fallen.items(), key=lambda item: item[1] or n_blocks) if at
    ]
    never = [name for name, at in fallen.items() if at is None]
    found = f"By Block Influence, less than half is kept of {'; '.join(said)}" if said else ""
    rest = f"{'; of ' if found else 'At least half is kept of '}{', '.join(never)}{' never' if found else ''}" if never else ""
    few = "" if n_prompts >= MIN_DOCUMENTS_FOR_CI else f" These are {count(n_prompts, 'prompt')}, too few for intervals."
    return f"{found}{rest} among the sets that were tried.{few}"


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
