"""What a report says in words about heads, and about depth against width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from analysis.display.format import capital, count, listed, minutes, percent, signed
from analysis.display.sentences import not_known, too_few, verdicts
from analysis.removal.savings import Comparison, Curve
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, RATE

PATTERNS = {"depth": "depth", "block": "the block", "position": "the position in the group"}


def order_of_heads(curves: Mapping[str, Curve]) -> str:
    """Which order removes a quarter of the heads at the lowest cost, and from which others it does not differ significantly.

    The measure of `curves` is "heads": the share of them that is removed.
    """
    quarter = {name: curve.rise("heads", 0.25) for name, curve in curves.items()}
    rises = {name: rise for name, rise in quarter.items() if rise is not None}
    if len(rises) < 2:
        return "Orders cannot be compared: there are too few heads."
    tokens = next(iter(curves.values())).tokens
    (verdict,) = verdicts(tokens, rises)
    costs = _costs({name: rise.sum() / tokens.sum() for name, rise in rises.items()})
    found = f"With a quarter of the heads removed, the order by {verdict.leaders[0]} raises the loss least ({costs})"
    return f"{found}{verdict.ending('less than', 'whether the orders differ')}."


def pattern_sentence(table: pd.DataFrame, *, n_heads: int, n_documents: int) -> str:
    """Which patterns in head effects are more than chance and the documents' noise; `table`: `analysis.width.pattern.patterns`.

    Errors are held to 5 % over all tests of the table (Bonferroni).
    """
    if n_documents < MIN_DOCUMENTS_FOR_CI:
        effects = f"whether the effects of {count(n_heads, 'head')} follow a pattern"
        return f"{capital(not_known(effects, n_documents))}."
    p = table[["p_layout", "p_documents"]].max(axis=1)
    significant = table[p * len(table) <= RATE].drop_duplicates("pattern")
    said = []
    for row in significant.to_dict("records"):
        where = "" if row["effects"] == "all" else "; extreme effects are pulled in to the others"
        scope = " within blocks" if row["pattern"] == "position" else ""
        name = capital(PATTERNS[row["pattern"]])
        said.append(
            f"{name} explains {percent(row['explained'])} of the variance of head effects{scope}, significantly more than "
            f"chance and noise do ({percent(row['chance'])} by chance{where})."
        )
    rest = table[~table["pattern"].isin(significant["pattern"]) & (table["effects"] == "all")]
    shares = [f"{PATTERNS[r['pattern']]} ({percent(r['explained'])}, by chance {percent(r['chance'])})" for r in rest.to_dict("records")]
    if shares:
        no, explain = "No significant pattern" if not said else "Not significant", "explain" if len(shares) > 1 else "explains"
        said.append(f"{no}: {listed(shares)} {explain} no more of the variance than chance or noise does.")
    return " ".join(said)


def more_documents(n_documents: int, seconds: float) -> str:
    """What an interval would take, when there are none; `seconds`: of a sweep of MIN_DOCUMENTS_FOR_CI documents on this machine."""
    if n_documents >= MIN_DOCUMENTS_FOR_CI:
        return ""
    return (
        f"There are no intervals: {too_few(n_documents)}. A sweep of {MIN_DOCUMENTS_FOR_CI} documents would take about "
        f"{minutes(seconds)} on this machine: set `documents` to {MIN_DOCUMENTS_FOR_CI} or more, or use the full budget."
    )


def cheapest_kind(comparison: Comparison, *, n_documents: int) -> str:
    """Which kind of part costs least where as much is saved, and from which others it does not differ significantly."""
    rises, verdict = comparison.rises, comparison.verdict
    if verdict is None or len(rises) < 2:
        only = f"only removing {listed(rises)} saves exactly that much" if rises else "none of them saves exactly that much"
        return f"With {comparison.at} saved, kinds cannot be compared: {only}."
    costs = _costs({kind: rise.value for kind, rise in rises.items()})
    found = f"With {comparison.at} saved, removing {verdict.leaders[0]} raises the loss least ({costs})"
    return f"{found}{verdict.ending('less than', 'whether the kinds differ', 'every other kind')}."


def depth_or_width(comparisons: Sequence[Comparison], kind: str = "heads", *, n_documents: int) -> str:
    """Is depth or width cheaper: heads, or experts, against blocks at equal savings, as far as their losses differ significantly."""
    sentences: dict[str, list[str]] = {
        f"Removing {kind} costs significantly less than removing blocks with {{}} saved.": [],
        f"Removing {kind} costs significantly more than removing blocks with {{}} saved.": [],
        f"{capital(kind)} and blocks do not differ significantly with {{}} saved.": [],
    }
    less, more, equal = sentences.values()
    for c in (c for c in comparisons if {kind, "blocks"} <= c.rises.keys()):
        cheaper = c.rises[kind].value < c.rises["blocks"].value
        (equal if frozenset((kind, "blocks")) not in c.differing else less if cheaper else more).append(c.at)
    if not any(sentences.values()):
        return f"{capital(kind)} and blocks cannot be compared: no sets of them save equally much at these shares."
    if n_documents < MIN_DOCUMENTS_FOR_CI:
        return f"{capital(not_known('whether width is cheaper than depth', n_documents))}."
    return " ".join(sentence.format(listed(found)) for sentence, found in sentences.items() if found)


def _costs(rises: Mapping[str, float]) -> str:
    return f"{', '.join(f'{name} {signed(rises[name])}' for name in sorted(rises, key=lambda name: rises[name]))} nats per token"
