"""One sentence for each question, of any number of architectures: what each has in plain units, and which of them differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from adapters.specs import ModelSpec
from analysis.comparison.claims import Claim, Holds
from analysis.comparison.redundancy import SUMMARIES, UNITS
from analysis.comparison.verdicts import what_seeds_say
from analysis.display.format import capital, count, number
from analysis.display.sentences import not_known
from analysis.stats.seeds import over_seeds

WEAKER = {  # what is said of pairs of which no difference of architectures is claimed
    Holds.MODELS: "Of these models alone, for want of seeds trained alike: {}.",
    Holds.VARY: "Seeds vary too much to say it of the architectures: {}.",
    Holds.DISAGREE: "The seeds disagree: {}.",
    Holds.NONE: "Not significant: {}.",
}


class Seeded(NamedTuple):
    """A summary of one group: of an architecture's seeds, or of a model."""

    name: str  # Markdown
    spec: ModelSpec
    values: tuple[float, ...]


def answer(summary: str, groups: Sequence[Seeded], claims: Sequence[Claim]) -> str:
    """The question, what each group has, and the pairs that differ: in their architectures, as far as seeds allow it."""
    known = [group for group in groups if np.isfinite(group.values).all()]
    asked = f"**{SUMMARIES[summary].asks}**"
    if not known:
        return f"{asked} {capital('nothing is known')}: no model is better than a byte unigram."
    said = [f"{asked} {capital('; '.join(_amount(summary, group) for group in known))}."]
    by: dict[Holds, list[Claim]] = {}
    for claim in claims:
        by.setdefault(claim.holds, []).append(claim)
    if strong := by.get(Holds.ARCHITECTURES):
        said.append(f"{capital(Holds.ARCHITECTURES.value)}: {'; '.join(_apart(claim, known) for claim in strong)}.")
    if Holds.OPEN in by:
        said.append(f"{capital(not_known('whether they differ', by[Holds.OPEN][0].documents.n_documents))}.")
    said += [words.format("; ".join(_ordered(claim) for claim in by[holds])) for holds, words in WEAKER.items() if holds in by]
    return " ".join(said)


def _amount(summary: str, group: Seeded) -> str:
    """ "Llama 2.74 (2.61 to 2.87) of 12 blocks (4 seeds)"."""
    unit = UNITS[SUMMARIES[summary].unit]
    return f"{group.name} {unit.amount(over_seeds(group.values), group.spec)} ({count(len(group.values), 'seed')})"


def _apart(claim: Claim, groups: Sequence[Seeded]) -> str:
    """ "RWKV more than Llama, by 7.80 (7.20 to 8.40) blocks at equal tokens (over seeds: ...)"; shares where numbers of parts differ."""
    (high, low), (value, first, second) = claim.sides, claim.seeds.interval
    specs = [group.spec for group in groups if group.name in (high.name, low.name)]
    unit = UNITS[SUMMARIES[claim.summary].unit]
    n = unit.per(specs[0]) if len({unit.per(spec) for spec in specs}) == 1 else 1
    size = sorted(abs(x) * n for x in (first or 0.0, second or 0.0))
    by = f"{number(abs(value) * n)} ({number(size[0])} to {number(size[1])})"
    return f"{high.name} more than {low.name} by {by} at {claim.matched} ({what_seeds_say(claim)})"


def _ordered(claim: Claim) -> str:
    high, low = claim.sides
    return f"{high.name} more than {low.name}" if claim.holds is Holds.MODELS else f"{claim.a.name} and {claim.b.name}"


def reconciled(means: Mapping[str, Mapping[str, float]], names: tuple[str, str], n_blocks: int) -> str:
    """How one of two models of `n_blocks` blocks can use more of them and yet do without more: by where the loss sits.

    `means`: of each of `names`, the summaries. Empty where the two do not seem to contradict each other.
    """
    if not np.isfinite([value for name in names for value in means[name].values()]).all():
        return ""
    wide, narrow = sorted(names, key=lambda name: -means[name]["effective"])
    a, b = means[wide], means[narrow]
    if a["removable"] <= b["removable"] or a["costliest"] >= b["costliest"]:
        return ""

    def both(name: str, write: Callable[[float], str]) -> str:
        return f"{write(b[name])} in {narrow}, {write(a[name])} in {wide}"

    def blocks(share: float) -> str:
        return number(share * n_blocks)

    return (
        f"{wide} uses more of its {n_blocks} blocks than {narrow} ({blocks(a['effective'])} against {blocks(b['effective'])} effective "
        f"ones), and yet more of them can go ({blocks(a['removable'])} against {blocks(b['removable'])}). That is no contradiction. The "
        "effective number says where the loss of single removals sits, and much of it sits in one block, which goes last: the costliest "
        f"costs {both('costliest', _percent)} of the gain. How many can go depends on the others, of which each costs little alone "
        f"(in the median {both('others', _percent)}), and on what they cost together: the cheaper half costs "
        f"{both('together', number)} times as much as alone."
    )


def _percent(share: float) -> str:
    return f"{number(100 * share)}\u00a0%"
