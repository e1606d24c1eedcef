"""One answer for each question, of any number of architectures: what each has in plain units, and which of them differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from adapters.specs import ModelSpec
from analysis.comparison.claims import CLAIMED, Claim, Holds
from analysis.comparison.redundancy import SHARE_OF_PARTS, SUMMARIES, UNITS, Unit
from analysis.display.format import capital, count, listed, number
from analysis.display.sentences import too_few
from analysis.stats.intervals import Interval
from analysis.stats.seeds import over_seeds

TRANSFORMER = "Transformer"  # of `ModelSpec.architecture`
WEAKER = {  # what is said of pairs of which no difference of architectures is claimed
    Holds.MODELS: "Of these models alone: {}.",
    Holds.VARY: "Too few seeds, or too unlike, to tell apart: {}.",
    Holds.DISAGREE: "Seeds disagree: {}.",
    Holds.NONE: "No significant difference: {}.",
}
MANY = 3  # pairs, more of which take a list, and are counted instead of named where no difference is known


class Seeded(NamedTuple):
    """A summary of one group: of an architecture's seeds, or of a model."""

    name: str  # Markdown
    spec: ModelSpec
    values: tuple[float, ...]
    documents: Interval  # of their mean


def answer(summary: str, groups: Sequence[Seeded], claims: Sequence[Claim], also: str = "") -> str:
    """The question, what each group has, and the pairs that differ: in their architectures, as far as seeds allow it.

    `claims`: of pairs of `groups`. `also`: a sentence on what each group has.
    """
    known = [group for group in groups if np.isfinite(group.values).all()]
    unknown = listed(group.name for group in groups if not np.isfinite(group.values).all())
    asked = f"**{SUMMARIES[summary].asks}**"
    said = [f"{asked} {_amounts(summary, known)}.", _cheaper(summary, known), also] if known else [asked]
    if unknown:
        said.append(f"Not known of {unknown}: no better than a byte unigram, or nothing costs anything.")
    strong: dict[str, list[Claim]] = {}
    weak: dict[Holds, list[Claim]] = {}
    for claim in claims:
        if claim.holds is Holds.ARCHITECTURES:
            strong.setdefault(claim.matched, []).append(claim)
        else:
            weak.setdefault(claim.holds, []).append(claim)
    tokens_first = sorted(strong.items(), reverse=True)  # "equal tokens", "equal loss"
    said += [f"Between the architectures as trained here, at {matched} {_apart(of, groups)}." for matched, of in tokens_first]
    said += [words.format(_pairs(weak[holds], groups)) for holds, words in WEAKER.items() if holds in weak]
    if some := weak.get(Holds.OPEN):
        said.append(f"Not known, with {too_few(some[0].documents.n_documents)}: {_pairs(some, groups)}.")
    return (" " if len(claims) <= MANY else "\n    - ").join(filter(None, said))


def _amounts(summary: str, groups: Sequence[Seeded]) -> str:
    """ "Llama 2.74 (2.61 to 2.87) and RWKV 10.6 (10.2 to 11.0) of 12 blocks", with intervals over seeds."""
    unit = UNITS[SUMMARIES[summary].unit]
    every = [(f"{group.name} {unit.written(over_seeds(group.values), unit.per(group.spec))}", unit.of(group.spec)) for group in groups]
    if len({of for _, of in every}) == 1:
        return listed(amount for amount, _ in every) + every[0][1]
    return listed(amount + of for amount, of in every)


def _cheaper(summary: str, groups: Sequence[Seeded]) -> str:
    """ "Width is cheaper in Llama and Mamba-2 (1 seed), depth in RWKV; not known in Baichuan"; empty for what has no sides.

    By intervals over seeds; where there are too few, over documents, which is of these models.
    """
    sides = SUMMARIES[summary].cheaper
    if sides is None:
        return ""
    found: dict[str, list[str]] = {}
    for group in groups:
        over = over_seeds(group.values)
        _, low, high = over if over.low is not None else group.documents
        side = "" if low is None or high is None or low <= 0 <= high else sides[high < 0]
        few = "" if over.low is not None else f" ({count(len(group.values), 'seed')})"
        found.setdefault(side, []).append(group.name + few)
    said = [f"{side} is cheaper in {listed(names)}" for side, names in found.items() if side]
    if "" in found:
        said.append(f"which is cheaper is not known in {listed(found[''])}")
    return f"{capital('; '.join(said))}."


def _apart(claims: Sequence[Claim], groups: Sequence[Seeded]) -> str:
    """ "RWKV has 7.80 (7.20 to 8.40) blocks more than Llama", by the higher side; in points where the numbers of parts differ."""
    said = []
    for claim in claims:
        (high, low), (value, *ends) = claim.sides, claim.seeds.interval
        first, second = sorted(abs(x) for x in ends if x is not None) or (None, None)
        unit, n = _unit(claim, groups)
        by = unit._replace(parts=False).written(Interval(abs(value), first, second), n) + unit.apart
        said.append((f"{high.name} has", f"{by} {'more, as a share,' if unit is SHARE_OF_PARTS else 'more'} than {low.name}"))
    return _joined(said)


def _joined(said: Iterable[tuple[str, str]]) -> str:
    """ "A more than B and C; B more than C": what begins alike is said at once."""
    by: dict[str, list[str]] = {}
    for beginning, ending in said:
        by.setdefault(beginning, []).append(ending)
    return "; ".join(f"{beginning} {listed(endings)}" for beginning, endings in by.items())


def _unit(claim: Claim, groups: Sequence[Seeded]) -> tuple[Unit, float]:
    """What a difference is said in, and what it is multiplied by."""
    unit = UNITS[SUMMARIES[claim.summary].unit]
    per = {unit.per(group.spec) for group in groups if group.name in (claim.a.name, claim.b.name)}
    return (unit, per.pop()) if len(per) == 1 else (SHARE_OF_PARTS, 100)


def _more(claim: Claim, groups: Sequence[Seeded]) -> str:
    """Of fewer parts a larger share may be a smaller number."""
    return "a larger share than" if _unit(claim, groups)[0] is SHARE_OF_PARTS else "more than"


def _pairs(claims: Sequence[Claim], groups: Sequence[Seeded]) -> str:
    """ "RWKV more than Llama and Baichuan; Llama more than Baichuan" where they differ, "Llama and Baichuan" where that is not known."""
    if claims[0].holds is Holds.MODELS:
        return _joined((f"{claim.sides[0].name} {_more(claim, groups)}", claim.sides[1].name) for claim in claims)
    return count(len(claims), "pair") if len(claims) > MANY else "; ".join(f"{claim.a.name} and {claim.b.name}" for claim in claims)


def whose(groups: Sequence[Seeded], claims: Sequence[Claim]) -> str:
    """Is redundancy the Transformer's? By what `claims` say of the share of blocks that can go.

    Empty where no Transformer is held against another architecture.
    """
    transformer = {group.name: group.spec.architecture == TRANSFORMER for group in groups}
    known = [claim for claim in claims if {claim.a.name, claim.b.name} <= transformer.keys() and claim.holds is not Holds.NO_GAIN]
    beside: dict[str, dict[str, list[str]]] = {}  # by the other architecture: Transformers by what is said of it beside them
    used = []
    for claim in known:
        other, mine = sorted((claim.a.name, claim.b.name), key=transformer.__getitem__)
        if transformer[other] or not transformer[mine]:
            continue
        way = ("more" if claim.sides[0].name == other else "fewer") if claim.holds in CLAIMED else "open"
        beside.setdefault(other, {}).setdefault(way, []).append(mine)
        used += [claim] if claim.holds in CLAIMED else []
    if not beside:
        return ""
    ways = [way for of in beside.values() for way in of]
    verdict = "No" if "more" in ways else "Not known" if "fewer" not in ways else "In part, as far as is known" if "open" in ways else "Yes"
    words = {
        "more": "a larger share of the blocks of {} can go than of those of {}",
        "fewer": "a smaller share of the blocks of {} can go than of those of {}",
    }
    words |= {"open": "no difference is shown between {} and {}"}
    said: dict[tuple[str, str], list[str]] = {}
    for other, of in beside.items():
        for way, names in of.items():
            said.setdefault((way, listed(names)), []).append(other)
    order = sorted(said.items(), key=lambda item: list(words).index(item[0][0]))
    every = "; ".join(words[way].format(listed(others), names) for (way, names), others in order)
    return f"**Is redundancy the Transformer's?** {verdict}: by blocks that can go for a tenth of the gain, {every}.{_how_far(used)}"


def _how_far(claims: Sequence[Claim]) -> str:
    strong = sum(claim.holds is Holds.ARCHITECTURES for claim in claims)
    if not claims or strong == len(claims):
        return ""
    return " That is said of these models." if not strong else " Part of that is of the architectures, the rest of these models (below)."


def reconciled(means: Mapping[str, Mapping[str, float]], names: tuple[str, str], n_blocks: int, also: str = "") -> str:
    """How `names[0]` can use more of its blocks than `names[1]` and yet do without more: by where the loss sits.

    `means`: of each of `names`, the summaries. `also`: other pairs of which it is said that more blocks are used, and more can go.
    """
    wide, narrow = names
    a, b = means[wide], means[narrow]

    def blocks(share: float) -> str:
        return number(share * n_blocks)

    def both(name: str, write: Callable[[float], str]) -> str:
        return f"{write(b[name])} in {narrow} and {write(a[name])} in {wide}"

    beside = f" The same is found of {also}." if also else ""
    return (
        f"{wide} uses {blocks(a['effective'])} of {n_blocks} blocks and {narrow} {blocks(b['effective'])}, and yet {wide} can lose "
        f"{blocks(a['removable'])} and {narrow} {blocks(b['removable'])}. That is no contradiction: the loss of {narrow} sits in one block "
        f"({_percent(b['costliest'])} of the gain; the costliest of {wide} costs {_percent(a['costliest'])}), which goes last."
        f"{beside} How many can go depends on the others: alone each costs {both('others', _percent)} (median), and the cheaper half "
        f"together {both('together', number)} times as much as alone."
    )


def _percent(share: float) -> str:
    return f"{number(100 * share)}\u00a0%"
