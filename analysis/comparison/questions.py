"""One answer for each question, of any number of architectures: what each has in plain units, and which of them differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from adapters.specs import ModelSpec
from analysis.comparison.claims import CLAIMED, Claim, Holds
from analysis.comparison.redundancy import SUMMARIES, UNITS
from analysis.display.format import capital, count, listed, number
from analysis.display.sentences import not_known
from analysis.stats.intervals import Interval
from analysis.stats.seeds import over_seeds

TRANSFORMER = "Transformer"  # of `ModelSpec.architecture`
WEAKER = {  # what is said of pairs of which no difference of architectures is claimed
    Holds.MODELS: "Of these models alone: {}.",
    Holds.VARY: "Seeds vary too much to tell apart: {}.",
    Holds.DISAGREE: "Seeds disagree: {}.",
    Holds.NONE: "No significant difference: {}.",
}
MANY = 3  # pairs without a difference, more of which are counted instead of named


class Seeded(NamedTuple):
    """A summary of one group: of an architecture's seeds, or of a model."""

    name: str  # Markdown
    spec: ModelSpec
    values: tuple[float, ...]
    documents: Interval  # of their mean


def answer(summary: str, groups: Sequence[Seeded], claims: Sequence[Claim]) -> str:
    """The question, what each group has, and the pairs that differ: in their architectures, as far as seeds allow it."""
    known = [group for group in groups if np.isfinite(group.values).all()]
    asked = f"**{SUMMARIES[summary].asks}**"
    if not known:
        return f"{asked} {capital('nothing is known')}: no model is better than a byte unigram."
    said = [asked, f"{_amounts(summary, known)}.", _cheaper(summary, known)]
    strong: dict[str, list[Claim]] = {}
    weak: dict[Holds, list[Claim]] = {}
    for claim in claims:
        if claim.holds is Holds.ARCHITECTURES:
            strong.setdefault(claim.matched, []).append(claim)
        else:
            weak.setdefault(claim.holds, []).append(claim)
    if strong:
        every = [f"at {matched} {'; '.join(_apart(claim, groups) for claim in of)}" for matched, of in strong.items()]
        said.append(f"Between the architectures as trained here, {'; '.join(every)}.")
    if Holds.OPEN in weak:
        said.append(f"{capital(not_known('whether they differ', weak[Holds.OPEN][0].documents.n_documents))}.")
    said += [words.format(_pairs(weak[holds])) for holds, words in WEAKER.items() if holds in weak]
    return " ".join(filter(None, said))


def _amounts(summary: str, groups: Sequence[Seeded]) -> str:
    """ "Llama 2.74 (2.61 to 2.87) and RWKV 10.6 (10.2 to 11.0) of 12 blocks", with intervals over seeds."""
    unit = UNITS[SUMMARIES[summary].unit]
    every = [(f"{group.name} {unit.written(over_seeds(group.values), unit.per(group.spec))}", unit.of(group.spec)) for group in groups]
    if len({of for _, of in every}) == 1:
        return listed(amount for amount, _ in every) + every[0][1]
    return listed(amount + of for amount, of in every)


def _cheaper(summary: str, groups: Sequence[Seeded]) -> str:
    """ "Width is cheaper in Llama; in RWKV seeds leave it open"; empty for what has no sides."""
    sides = SUMMARIES[summary].cheaper
    if sides is None:
        return ""
    found: dict[str, list[str]] = {}
    for group in groups:
        over = over_seeds(group.values)
        _, low, high = over if over.low is not None else group.documents
        side = "" if low is None or high is None or low <= 0 <= high else sides[high < 0]
        found.setdefault(side, []).append(group.name)
    said = [f"{side} is cheaper in {listed(names)}" for side, names in found.items() if side]
    if "" in found:
        said.append(f"which one is in {listed(found[''])} is not known")
    return f"{capital('; '.join(said))}."


def _apart(claim: Claim, groups: Sequence[Seeded]) -> str:
    """ "RWKV more than Llama by 7.80 (7.20 to 8.40)", in the amounts' unit; as a share where the numbers of parts differ."""
    (high, low), (value, *ends) = claim.sides, claim.seeds.interval
    unit = UNITS[SUMMARIES[claim.summary].unit]
    per = {unit.per(group.spec) for group in groups if group.name in (high.name, low.name)}
    n = per.pop() if len(per) == 1 else 1
    first, second = sorted(abs(x) for x in ends if x is not None) or (None, None)
    return f"{high.name} more than {low.name} by {unit._replace(parts=False).written(Interval(abs(value), first, second), n)}"


def _pairs(claims: Sequence[Claim]) -> str:
    holds = claims[0].holds
    if holds is Holds.NONE and len(claims) > MANY:
        return f"{count(len(claims), 'other pair')}"
    if holds is Holds.MODELS:
        return "; ".join(f"{claim.sides[0].name} more than {claim.sides[1].name}" for claim in claims)
    return "; ".join(f"{claim.a.name} and {claim.b.name}" for claim in claims)


def whose(groups: Sequence[Seeded], claims: Iterable[Claim]) -> str:
    """Is redundancy the Transformer's? By what `claims` say of how many blocks can go; empty without a Transformer or without another."""
    transformers = [group.name for group in groups if group.spec.architecture == TRANSFORMER]
    others = [group.name for group in groups if group.spec.architecture != TRANSFORMER]
    between = [claim for claim in claims if {claim.a.name in transformers, claim.b.name in transformers} == {True, False}]
    if not transformers or not others or not between:
        return ""
    by: dict[str, list[str]] = {}
    for name in others:
        found = [claim for claim in between if name in (claim.a.name, claim.b.name) and claim.holds in CLAIMED]
        ways = {"more" if claim.sides[0].name == name else "fewer" for claim in found}
        by.setdefault(ways.pop() if len(ways) == 1 else "mixed" if ways else "open", []).append(name)
    verdict = "No" if "more" in by else "Yes" if set(by) == {"fewer"} else "Not as far as is known"
    words = {
        "more": "more blocks can go of {}",
        "fewer": "fewer blocks can go of {}",
        "mixed": "more blocks can go of {} than of some of them, and fewer than of others",
        "open": "no difference is shown for {}",
    }
    said = "; ".join(words[way].format(listed(by[way])) for way in words if way in by)
    strong = all(claim.holds is Holds.ARCHITECTURES for claim in between if claim.holds in CLAIMED)
    of = "" if strong else " That is said of these models; which pairs it holds for as architectures stands below."
    return f"**Is redundancy the Transformer's?** {verdict}: beside {listed(transformers)}, {said}.{of}"


def reconciled(means: Mapping[str, Mapping[str, float]], names: tuple[str, str], n_blocks: int) -> str:
    """How `names[0]` can use more of its blocks than `names[1]` and yet do without more: by where the loss sits.

    `means`: of each of `names`, the summaries.
    """
    wide, narrow = names
    a, b = means[wide], means[narrow]

    def blocks(share: float) -> str:
        return number(share * n_blocks)

    def both(name: str, write: Callable[[float], str]) -> str:
        return f"{write(b[name])} in {narrow} and {write(a[name])} in {wide}"

    return (
        f"{wide} uses {blocks(a['effective'])} of {n_blocks} blocks and {narrow} {blocks(b['effective'])}, and yet {wide} can lose "
        f"{blocks(a['removable'])} and {narrow} {blocks(b['removable'])}. That is no contradiction: the loss of {narrow} sits in one block "
        f"({_percent(b['costliest'])} of the gain; the costliest of {wide} costs {_percent(a['costliest'])}), which goes last. How many "
        f"can go depends on the others: alone each costs {both('others', _percent)} (median), and the cheaper half together "
        f"{both('together', number)} times as much as alone."
    )


def _percent(share: float) -> str:
    return f"{number(100 * share)}\u00a0%"
