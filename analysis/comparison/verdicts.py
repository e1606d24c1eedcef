"""What a comparison says in words of two sides: about these models, and about their architectures only where the seeds allow it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.comparison.claims import Claim, Holds, Side, few
from analysis.comparison.redundancy import SUMMARIES, Summary
from analysis.display.format import bounded, capital, count, listed, number
from analysis.display.sentences import Effect, not_known
from analysis.stats.intervals import Interval
from analysis.stats.seeds import ENOUGH

NO_GAIN = "a model that is no better than a byte unigram has nothing to lose"


@dataclass(frozen=True)
class Contrast:
    """What the first page of a report says of a Transformer and an RWKV, or of any two sides: effective blocks of each seed."""

    names: tuple[str, str]
    architectures: tuple[str, str]  # `ModelSpec.architecture`
    effective: tuple[tuple[float, ...], tuple[float, ...]]  # blocks, of each seed; empty where nothing can be lost
    n_blocks: tuple[int, int]
    significant: bool
    enough_seeds: bool  # of both, trained alike, to speak of architectures
    sentence: str  # Markdown


def differences(claims: Sequence[tuple[Claim, tuple[int, int] | None]]) -> str:
    """Several summaries of the same two sides, each with numbers of blocks where it is given in blocks.

    Where all of them are differences between the architectures that is said once, behind what differs.
    """
    if len(claims) < 2 or any(claim.holds is not Holds.ARCHITECTURES for claim, _ in claims):
        return " ".join(difference(claim, n_blocks=n_blocks) for claim, n_blocks in claims)
    found = ". ".join(_found(claim, n_blocks) for claim, n_blocks in claims)
    higher = listed([SUMMARIES[claim.summary].higher.format(claim.sides[0].name) for claim, _ in claims])
    weakest = max((claim for claim, _ in claims), key=lambda claim: claim.p_over_seeds)
    return (
        f"{found}. Significantly, {higher}: differences between the architectures as trained here, at {weakest.matched} "
        f"({what_seeds_say(weakest, 'at most')})."
    )


def difference(claim: Claim, *, n_blocks: tuple[int, int] | None = None) -> str:
    """Does a summary differ between two sides, and do their seeds agree?

    With `n_blocks` shares are given as numbers of blocks. That few seeds speak of models alone is for `few_seeds` to say, once for
    all pairs.
    """
    summary, gap, holds, (high, low) = SUMMARIES[claim.summary], claim.documents, claim.holds, claim.sides
    if holds is Holds.NO_GAIN:
        return f"{capital(summary.title)} cannot be compared: {NO_GAIN}."
    if holds is Holds.OPEN:
        return f"{_both(summary, claim.a, claim.b, n_blocks)}. {capital(not_known('whether they differ', gap.n_documents))}."
    found = _found(claim, n_blocks)
    if holds is Holds.NONE:
        return f"{found}. They do not differ significantly."
    if holds is Holds.DISAGREE:
        return f"{found}. The seeds disagree: one of {low.name} reaches one of {high.name}, so no difference is supported."
    said = f"{found}: significantly, {summary.higher.format(high.name)}"
    if holds is Holds.MODELS:
        return f"{said}."
    if holds is Holds.VARY:
        return f"{said}. {capital(holds.value)} ({what_seeds_say(claim)})."
    return f"{said}, {holds.value}, at {claim.matched} ({what_seeds_say(claim)})."


def what_seeds_say(claim: Claim, is_: str = "=") -> str:
    """What seeds say of a difference, in brackets."""
    return f"over {len(claim.a.values)} and {len(claim.b.values)} seeds, p {is_} {number(claim.p_over_seeds)}"


def reach(claims: Iterable[Claim]) -> str:
    """How differences between architectures were tested, and how small a p-value so many seeds can give by permutation; once for all."""
    least = {tuple(sorted(map(len, (claim.a.values, claim.b.values)))): claim.seeds.least for claim in claims if claim.of_architectures}
    if not least:
        return ""
    each = "; ".join(f"{a} against {b} seeds {number(p)}" for (a, b), p in sorted(least.items()))
    return (
        "Intervals and p-values are over seeds: Student's t for a mean, Welch's for a difference (the permutation test where seeds are "
        "exactly alike), false discoveries held to 5\u00a0% over all questions and pairs. The exact permutation test beside them can give "
        f"no p below: {each}."
    )


def few_seeds(pairs: Sequence[tuple[Side, Side]]) -> str:
    """The caveat on seeds, once for all pairs."""
    those_few = [(a.name, b.name) for a, b in pairs if few(a, b)]
    if not those_few:
        return ""
    those = "These sentences are" if len(those_few) == len(pairs) else f"What is said of {_pairs(those_few)} is"
    return f"{those} about these models, not about architectures, for which {ENOUGH} seeds of each are needed."


def _found(claim: Claim, n_blocks: tuple[int, int] | None) -> str:
    """Both sides, and their difference with its interval where it is not in blocks."""
    both = _both(SUMMARIES[claim.summary], claim.a, claim.b, n_blocks)
    return both if n_blocks else f"{both}; difference {bounded(claim.documents.size)}"


def _both(summary: Summary, a: Side, b: Side, n_blocks: tuple[int, int] | None) -> str:
    """ "2.70 effective blocks of 12 for Llama against 10.4 for RWKV"; `summary` is then called by its first word."""
    if n_blocks is None:
        return f"{capital(summary.title)}: {_mean(a)} for {a.name}, {_mean(b)} for {b.name}"
    first, second = (number(float(np.mean(side.values)) * n) for side, n in zip((a, b), n_blocks, strict=True))
    rest = "" if n_blocks[0] == n_blocks[1] else f" of {n_blocks[1]}"
    return f"{first} {summary.short.split()[0]} blocks of {n_blocks[0]} for {a.name} against {second}{rest} for {b.name}"


def spread(summary: Summary, sides: Sequence[tuple[Side, Interval]]) -> str:
    """How far seeds lie apart, beside what other documents would change; each side with the interval of its mean over documents.

    Empty where no side has two seeds.
    """
    found: dict[str, list[str]] = {}
    for (name, values), (_, low, high) in sides:
        if len(values) < 2 or not np.isfinite(values).all():
            continue
        how = "apart"
        if low is not None and high is not None:
            how = "further apart than documents explain" if max(values) - min(values) > high - low else "within what documents explain"
        found.setdefault(how, []).append(f"{name} ({number(min(values))} to {number(max(values))})")
    if not found:
        return ""
    return f"By the {summary.title}, seeds lie {'; '.join(f'{how} in {listed(names)}' for how, names in found.items())}."


BY_DEPTH = "depth"  # two sides of one kind of architecture


def controlled(pairs: Sequence[tuple[str, str, str]]) -> str:
    """Which of the compared sides differ in their architecture alone; `pairs`: names, and what they were matched by, or BY_DEPTH."""
    by: dict[str, list[tuple[str, str]]] = {}
    for a, b, matched in pairs:
        by.setdefault(matched, []).append((a, b))
    others, deep, said = by.pop("", []), by.pop(BY_DEPTH, []), []
    if deep:
        said.append(f"Trained alike, in more and narrower blocks or in fewer and wider ones: {_pairs(deep)}.")
    if by:
        alike = "; ".join(_pairs(of, f" ({matched})") for matched, of in by.items())
        said.append(f"Trained alike, so that only the architecture differs: {alike}.")
    if "equal loss" in by:
        said.append("At equal loss the early checkpoint has also read fewer tokens, and its learning rate was still high.")
    if others:
        said.append(f"Not trained alike, so that data, size and budget may differ: {_pairs(others)}.")
    return " ".join(said)


SKIPPED = "An early checkpoint is compared only with the seeds that it was matched to, so that differences are not those of all seeds."


def _pairs(pairs: Sequence[tuple[str, str]], note: str = "") -> str:
    """Every pair by name, or all names at once where each is paired with each other."""
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    if len(pairs) == math.comb(len(names), 2):
        return f"{listed(names)}{note}"
    return "; ".join(f"{a} and {b}{note}" for a, b in pairs)


def over_training(name: str, summary: Summary, first: int, last: int, growth: Effect) -> str:
    """Does redundancy grow as a model learns? `growth`: the summary after step `last` less that after step `first`."""
    if not np.isfinite(growth.size.value):
        return (
            f"Whether the redundancy of {name} grows during training is not known: "
            "two steps after the start are needed at which it is better than a byte unigram."
        )
    more, less = (f"{name} becomes {how} redundant during training" for how in ("more", "less")[:: summary.redundant])
    return f"From step {first:,} to step {last:,} of {name} the {summary.title} changes by {bounded(growth.size)}. " + growth.say(
        "whether redundancy grows", f"By this measure {more}.", f"By this measure {less}.", "That is not significant."
    )


def equally(claim: Claim) -> str:
    """Does a summary change equally in two sides? `values` of a side: the change of each seed."""
    a, b, gap = claim.a, claim.b, claim.documents
    size = gap.size
    if not np.isfinite(size.value):
        return ""
    up, down = claim.sides
    falls = np.mean(up.values) <= 0  # in both, so that the lower one changes more
    more, less = (down, up) if falls else (up, down)
    opposite = ", where it falls" if np.mean(down.values) < 0 < np.mean(up.values) else ""
    apart = size if up is a else Interval(-size.value, *(None if bound is None else -bound for bound in (size.high, size.low)))
    title = SUMMARIES[claim.summary].title
    found = f"The {title} {'falls' if falls else 'rises'} by {bounded(apart)} more in {more.name} than in {less.name}{opposite}"
    significant = {
        Holds.ARCHITECTURES: f"That is {Holds.ARCHITECTURES.value} ({what_seeds_say(claim)}).",
        Holds.VARY: f"{capital(Holds.VARY.value)} ({what_seeds_say(claim)}).",
        Holds.DISAGREE: "The seeds disagree, so no difference is supported.",
    }.get(claim.holds, f"That is about these {count(len(a.values) + len(b.values), 'training')}, not about architectures.")
    return f"{found}. {gap.say('whether that is a difference', significant, significant, 'That is not significant.')}"


def _mean(side: Side) -> str:
    return number(float(np.mean(side.values)))
