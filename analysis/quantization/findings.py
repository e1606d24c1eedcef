"""What can be said about quantised models: functions of differences over documents, which claim no more than these allow."""

from __future__ import annotations

from analysis.display.format import bounded, count, listed
from analysis.display.sentences import RATE, Effect
from analysis.stats.intervals import Array, Interval, differs_from_zero, ratio


def effects(differences: Array, tokens: Array) -> list[Effect]:
    """Of differences (effects, documents); false discoveries are held to 5 % among all of them."""
    sizes, significant = [ratio(row, tokens) for row in differences], differs_from_zero(differences, tokens).significant
    return [Effect(size, bool(yes), len(tokens)) for size, yes in zip(sizes, significant, strict=True)]


def cost(what: str, rise: Effect) -> str:
    """What a change of the model does to the loss."""
    return rise.say(
        f"whether the rise in loss with {what} ({_nats(rise.size)}) is significant",
        f"{what} costs {{}}.",
        f"{what} lowers the loss by {{}}.",
        f"{what} does not change the loss significantly {RATE}: {{}}.",
        _nats,
    )


def order(gap: Effect) -> str:
    """Quantise first or remove first? `gap`: loss when blocks go first, minus that when the model is quantised first."""
    return gap.say(
        "which order is better",
        "Quantising first and then removing blocks is better, by {}.",
        "Removing blocks first and then quantising is better, by {}.",
        "The two orders do not differ significantly: removing first changes the loss by {}.",
        _nats,
    )


def together(extra: Effect) -> str:
    """Do the costs add up? `extra`: the rise with both, minus the rises of each alone."""
    return extra.say(
        "whether the two costs add up",
        "Together they cost {} more than the sum of what each costs alone.",
        "Together they cost {} less than the sum of what each costs alone.",
        "What they cost together does not differ significantly from the sum of what each costs alone: by {}.",
        _nats,
    )


def same_blocks(dense: tuple[int, ...], quantised: tuple[int, ...], name: str) -> str:
    """Does Block Influence choose the same blocks in the quantised model?"""
    if dense == quantised:
        return f"Block Influence chooses the same {count(len(dense), 'block')} in the {name} model."
    gained, lost = (listed(sorted(set(a) - set(b))) for a, b in ((quantised, dense), (dense, quantised)))
    return f"Block Influence chooses other blocks in the {name} model: {gained} instead of {lost}. Those of the original model are removed."


def _nats(size: Interval) -> str:
    return f"{bounded(size)} nats per token"
