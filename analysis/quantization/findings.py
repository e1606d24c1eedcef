"""What can be said about quantised models: functions of intervals over documents, which claim no more than these allow."""

from __future__ import annotations

from analysis.conclusions import too_few
from analysis.figures import bounded, number
from analysis.statistics import Interval


def cost(what: str, rise: Interval, n_documents: int) -> str:
    """What a change of the model does to the loss; `rise` in nats a token, paired over documents."""
    x = _size(rise)
    return {
        "open": f"{what}: the loss moves by {x}. Whether that is a cost is open: {too_few(n_documents)}.",
        "above": f"{what} costs {x}.",
        "below": f"{what} lowers the loss, by {x}.",
        "neither": f"{what} costs nothing that these documents show: {x}.",
    }[_side(rise)]


def order(gap: Interval, n_documents: int) -> str:
    """Quantise first or remove first? `gap`: loss when blocks go first, minus that when the model is quantised first."""
    x = _size(gap)
    return {
        "open": f"Which order is better is open: {too_few(n_documents)}.",
        "above": f"Quantising first and removing blocks afterwards is better, by {x}.",
        "below": f"Removing blocks first and quantising what is left is better, by {x}.",
        "neither": f"That the order matters is not supported: blocks first makes a difference of {x}.",
    }[_side(gap)]


def together(extra: Interval, n_documents: int) -> str:
    """Do the costs add up? `extra`: the rise with both, minus the rises of each alone."""
    x, sum_ = _size(extra), "the sum of what each costs alone"
    return {
        "open": f"Whether the two costs add up is open: {too_few(n_documents)}.",
        "above": f"Together they cost {x} more than {sum_}.",
        "below": f"Together they cost {x} less than {sum_}.",
        "neither": f"That they do more together than {sum_} is not supported: {x} beyond it.",
    }[_side(extra)]


def same_blocks(dense: tuple[int, ...], quantised: tuple[int, ...], name: str) -> str:
    """Does Block Influence choose the same blocks in the quantised model?"""
    if dense == quantised:
        return f"Block Influence chooses the same {len(dense)} blocks in the {name} model."
    gained, lost = (", ".join(map(str, sorted(set(a) - set(b)))) for a, b in ((quantised, dense), (dense, quantised)))
    return (
        f"Block Influence chooses other blocks in the {name} model: {gained} in place of {lost}. The ones of the dense model are removed."
    )


def _side(interval: Interval) -> str:
    """Where an interval lies: above or below zero, neither, or open when there is none."""
    if interval.low is None or interval.high is None:
        return "open"
    return "above" if interval.low > 0 else "below" if interval.high < 0 else "neither"


def _size(interval: Interval) -> str:
    """The interval as text; without its sign when all of it is below zero."""
    if interval.low is None or interval.high is None:
        return f"{number(interval.value)} nats a token"
    turned = Interval(-interval.value, -interval.high, -interval.low) if interval.high < 0 else interval
    return f"{bounded(turned)} nats a token"
