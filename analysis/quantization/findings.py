"""What can be said about quantised models: functions of intervals over documents, which claim no more than these allow."""

from __future__ import annotations

from analysis.conclusions import too_few
from analysis.figures import bounded, number
from analysis.statistics import Interval


def cost(what: str, rise: Interval, n_documents: int) -> str:
    """What a change of the model does to the loss; `rise` in nats a token, paired over documents."""
    if rise.low is None or rise.high is None:
        return f"{what}: the loss moves by {number(rise.value)} nats a token. Whether that is a cost is open: {too_few(n_documents)}."
    if rise.low > 0:
        return f"{what} costs {bounded(rise)} nats a token."
    if rise.high < 0:
        return f"{what} lowers the loss, by {bounded(_negative(rise))} nats a token."
    return f"{what} costs nothing that these documents show: {bounded(rise)} nats a token."


def order(gap: Interval, n_documents: int) -> str:
    """Quantise first or remove first? `gap`: loss when blocks go first, minus that when the model is quantised first."""
    if gap.low is None or gap.high is None:
        return f"Which order is better is open: {too_few(n_documents)}."
    if gap.low > 0:
        return f"Quantising first and removing blocks afterwards is better, by {bounded(gap)} nats a token."
    if gap.high < 0:
        return f"Removing blocks first and quantising what is left is better, by {bounded(_negative(gap))} nats a token."
    return f"That the order matters is not supported: blocks first makes a difference of {bounded(gap)} nats a token."


def together(extra: Interval, n_documents: int) -> str:
    """Do the costs add up? `extra`: the rise with both, minus the rises of each alone."""
    if extra.low is None or extra.high is None:
        return f"Whether the two costs add up is open: {too_few(n_documents)}."
    if extra.low > 0:
        return f"Together they cost {bounded(extra)} nats a token more than the sum of what each costs alone."
    if extra.high < 0:
        return f"Together they cost {bounded(_negative(extra))} nats a token less than the sum of what each costs alone."
    return f"That they do more together than the sum of what each costs alone is not supported: {bounded(extra)} nats a token beyond it."


def same_blocks(dense: tuple[int, ...], quantised: tuple[int, ...], name: str) -> str:
    """Does Block Influence choose the same blocks in the quantised model?"""
    if dense == quantised:
        return f"Block Influence chooses the same {len(dense)} blocks in the {name} model."
    gained, lost = (", ".join(map(str, sorted(set(a) - set(b)))) for a, b in ((quantised, dense), (dense, quantised)))
    return (
        f"Block Influence chooses other blocks in the {name} model: {gained} in place of {lost}. The ones of the dense model are removed."
    )


def _negative(interval: Interval) -> Interval:
    return Interval(-interval.value, *(None if bound is None else -bound for bound in (interval.high, interval.low)))
