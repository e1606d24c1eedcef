"""What can be said about quantised models: functions of differences over documents, which claim no more than these allow."""

from __future__ import annotations

from typing import NamedTuple

from analysis.display.format import bounded
from analysis.display.sentences import too_few
from analysis.stats.intervals import Array, Interval, differs_from_zero, ratio


class Effect(NamedTuple):
    """A difference of losses."""

    size: Interval  # nats a token, paired over documents
    significant: bool  # from zero
    n_documents: int

    @property
    def side(self) -> str:
        """Where it lies: above or below zero, neither, or open when there is no interval."""
        if self.size.low is None or self.size.high is None:
            return "open"
        return "neither" if not self.significant else "above" if self.size.value > 0 else "below"

    @property
    def text(self) -> str:
        """Without its sign below zero, where the sentence has it."""
        value, low, high = self.size
        turned = Interval(-value, -high, -low) if self.side == "below" and low is not None and high is not None else self.size
        return f"{bounded(turned)} nats a token"


def effects(differences: Array, tokens: Array) -> list[Effect]:
    """Of differences (effects, documents); false discoveries are held to 5 % among all of them."""
    sizes, significant = [ratio(row, tokens) for row in differences], differs_from_zero(differences, tokens)
    return [Effect(size, bool(yes), len(tokens)) for size, yes in zip(sizes, significant, strict=True)]


def cost(what: str, rise: Effect) -> str:
    """What a change of the model does to the loss."""
    x = rise.text
    return {
        "open": f"{what}: the loss moves by {x}. Whether that is a cost is open: {too_few(rise.n_documents)}.",
        "above": f"{what} costs {x}.",
        "below": f"{what} lowers the loss, by {x}.",
        "neither": f"{what} costs nothing that these documents show (false discovery rate 5 %): {x}.",
    }[rise.side]


def order(gap: Effect) -> str:
    """Quantise first or remove first? `gap`: loss when blocks go first, minus that when the model is quantised first."""
    x = gap.text
    return {
        "open": f"Which order is better is open: {too_few(gap.n_documents)}.",
        "above": f"Quantising first and removing blocks afterwards is better, by {x}.",
        "below": f"Removing blocks first and quantising what is left is better, by {x}.",
        "neither": f"That the order matters is not supported: blocks first makes a difference of {x}.",
    }[gap.side]


def together(extra: Effect) -> str:
    """Do the costs add up? `extra`: the rise with both, minus the rises of each alone."""
    x, sum_ = extra.text, "the sum of what each costs alone"
    return {
        "open": f"Whether the two costs add up is open: {too_few(extra.n_documents)}.",
        "above": f"Together they cost {x} more than {sum_}.",
        "below": f"Together they cost {x} less than {sum_}.",
        "neither": f"That they do more together than {sum_} is not supported: {x} beyond it.",
    }[extra.side]


def same_blocks(dense: tuple[int, ...], quantised: tuple[int, ...], name: str) -> str:
    """Does Block Influence choose the same blocks in the quantised model?"""
    if dense == quantised:
        return f"Block Influence chooses the same {len(dense)} blocks in the {name} model."
    gained, lost = (", ".join(map(str, sorted(set(a) - set(b)))) for a, b in ((quantised, dense), (dense, quantised)))
    return (
        f"Block Influence chooses other blocks in the {name} model: {gained} in place of {lost}. The ones of the dense model are removed."
    )
