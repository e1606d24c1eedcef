"""What a report says in words about heads, and about depth against width; as `conclusions`, no more than intervals allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.display.format import capital, listed, number, percent, signed
from analysis.display.sentences import too_few
from analysis.removal.savings import Comparison, CostedPath
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, differs_from_zero

PATTERNS = {"depth": "depth", "block": "the block", "position": "the place in the group"}
RATE = 0.05


def heads_sentence(rows: pd.DataFrame) -> str:
    """How many heads cost something when taken out alone, and which cost most.

    `rows`, one a head: block, head, value (rise in nats per token), ci_low, ci_high, told, n_documents.
    """
    n, documents = len(rows), int(rows["n_documents"].min())
    labels = [f"{block}.{head}" for block, head in zip(rows["block"], rows["head"], strict=True)]
    rows = rows.assign(label=labels).sort_values("value", ascending=False, ignore_index=True)
    top, significant = rows.iloc[0], rows["significant"]
    if documents < MIN_DOCUMENTS_FOR_CI:
        return (
            f"Whether any of {n} heads can be told from the dense model is open: {too_few(documents)}. "
            f"The largest rise seen is {signed(top['value'])} nats per token, without head {top['label']}."
        )
    if not significant.any():
        return (
            f"None of {n} heads can be told from the dense model when it is taken out alone (false discovery rate 5 %). That is no proof "
            f"that they are free: their intervals reach {number(rows['ci_high'].max())} nats per token."
        )
    found = f"{significant.sum()} of {n} heads can be told from the dense model when taken out alone (false discovery rate 5 %)"
    if not significant.all():
        found += f"; the intervals of the others reach {number(rows[~significant]['ci_high'].max())} nats per token"
    sentences = [f"{found}."]
    if better := rows[significant & (rows["value"] < 0)]["label"].tolist():
        sentences.append(f"The loss is lower without {len(better)} of them: {', '.join(sorted(better, key=_by_number))}.")
    if not top["significant"] or top["value"] < 0:
        return " ".join(sentences)
    rivals = rows[rows["ci_high"] >= top["ci_low"]]["label"].tolist()
    bounds = f"{signed(top['value'])} nats per token (95 % interval {number(top['ci_low'])} to {number(top['ci_high'])})"
    if len(rivals) == 1:
        return " ".join([*sentences, f"Head {top['label']} costs most: {bounds}."])
    others = "one other interval overlaps" if len(rivals) == 2 else f"{len(rivals) - 1} other intervals overlap"
    return " ".join([*sentences, f"The largest rise is that of head {top['label']}, {bounds}; {others} with it."])


def _by_number(label: str) -> tuple[int, ...]:
    return tuple(map(int, label.split(".")))


def order_of_heads(paths: Mapping[str, CostedPath], n_heads: int) -> str:
    """Which order removes a quarter of the heads at least cost, and from which others it can be told."""
    paper_n_removed = {name: path.rise(np.array([0, *(len(a.heads) for a in path.ablations)]), n_heads / 4) for name, path in paths.items()}
    rises = {name: rise for name, rise in paper_n_removed.items() if rise is not None}
    if len(rises) < 2:
        return "Orders cannot be compared: too few heads."
    tokens = next(iter(paths.values())).tokens
    first, *others = sorted(rises, key=lambda name: rises[name].sum())
    costs = ", ".join(f"{name} {signed(rises[name].sum() / tokens.sum())}" for name in (first, *others))
    found = f"Of the orders that remove a quarter of the heads, that by {first} raises the loss least ({costs} nats per token)"
    if len(tokens) < MIN_DOCUMENTS_FOR_CI:
        return f"{found}. Whether the orders differ is open: {too_few(len(tokens))}."
    significant = differs_from_zero(np.array([rises[name] - rises[first] for name in others]), tokens)
    if significant.all():
        return f"{found}, and it can be told from all others."
    return f"{found}, but it cannot be told from that by {listed([n for n, apart in zip(others, significant, strict=True) if not apart])}."


def pattern_sentence(table: pd.DataFrame, *, n_heads: int, n_documents: int) -> str:
    """Which patterns in head effects are more than chance and the documents' noise; `table`: `analysis.width.pattern.patterns`.

    Errors are held to 5 % over all tests of the table (Bonferroni).
    """
    if n_documents < MIN_DOCUMENTS_FOR_CI:
        return f"Whether what {n_heads} heads cost follows a pattern is open: {too_few(n_documents)}."
    p = table[["p_layout", "p_documents"]].max(axis=1)
    supported = table[p * len(table) <= RATE].drop_duplicates("pattern")
    said = []
    for row in supported.to_dict("records"):
        where = "" if row["effects"] == "all" else ", extreme effects brought in to the others"
        scope = " within blocks" if row["pattern"] == "position" else ""
        name = PATTERNS[row["pattern"]]
        explained = f"{percent(row['explained'])} of the variance of head effects{scope} ({percent(row['chance'])} by chance{where})"
        said.append(f"{capital(name)} explains {explained}: a pattern is supported.")
    rest = table[~table["pattern"].isin(supported["pattern"]) & (table["effects"] == "all")]
    shares = [f"{PATTERNS[r['pattern']]} ({percent(r['explained'])}, {percent(r['chance'])} by chance)" for r in rest.to_dict("records")]
    if not said:
        return f"No pattern is supported: {listed(shares)} explain no more of the variance of head effects than chance or noise does."
    if shares:
        said.append(f"More than chance or noise is not supported: {listed(shares)}.")
    return " ".join(said)


def reliability_of_heads(r: float | None, *, n_heads: int, n_documents: int) -> str:
    """Would other documents rank the heads alike? `r`: `analysis.stats.rank_agreement.reliability`, Spearman, not stepped up."""
    if r is None:
        return f"How far the ranking of the heads can be trusted cannot be said: {too_few(n_documents)}."
    found = f"Two halves of the documents ({n_documents // 2} each) rank the {n_heads} heads with a Spearman rho of {number(r)} on average"
    if r >= 0.9:
        return f"{found}: the ranking hardly depends on the documents."
    if r >= 0.5:
        return f"{found}: the ranking is there, with noise in it, which pulls every agreement with it to zero."
    return f"{found}: most of the ranking is noise, and no single head should be chosen by it."


def more_documents(n_documents: int, seconds: float) -> str:
    """What an interval would take, when there is none; `seconds`: of a sweep of ENOUGH documents on this machine."""
    if n_documents >= MIN_DOCUMENTS_FOR_CI:
        return ""
    time = f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"
    return (
        f"There are no intervals: {too_few(n_documents)}. A sweep of {MIN_DOCUMENTS_FOR_CI} documents would take about {time} here: "
        f"give `documents` {MIN_DOCUMENTS_FOR_CI} or more, or the full budget."
    )


def cheapest_kind(comparison: Comparison, *, n_documents: int) -> str:
    """Which kind of part costs least where as much is saved, and from which others it can be told."""
    rises, share = comparison.rises, f"{percent(comparison.share)} of {comparison.measure}"
    if len(rises) < 2:
        return f"At {share} kinds cannot be compared: {f'only {next(iter(rises))}' if rises else 'none'} can save just as much."
    first, *others = sorted(rises, key=lambda kind: rises[kind].value)
    costs = ", ".join(f"{kind} {signed(rises[kind].value)}" for kind in (first, *others))
    found = f"At {share} removing {first} raises the loss least ({costs} nats per token)"
    if n_documents < MIN_DOCUMENTS_FOR_CI:
        return f"{found}. Whether the kinds differ is open: {too_few(n_documents)}."
    significant = [kind for kind in others if comparison.significant.get((first, kind), comparison.significant.get((kind, first)))]
    if len(significant) == len(others):
        return f"{found}, and it can be told from all others."
    rest = listed([kind for kind in others if kind not in significant])
    return f"{found}, but it cannot be told from {rest}: which is cheapest is open."


def depth_or_width(comparisons: Sequence[Comparison], *, n_documents: int) -> str:
    """Is depth or width cheaper: heads against blocks at each cost, and only as far as their losses can be told apart."""
    said: dict[str, list[str]] = {"cheaper": [], "dearer": [], "open": []}
    for c in comparisons:
        if {"heads", "blocks"} <= c.rises.keys():
            apart = c.significant.get(("blocks", "heads"), c.significant.get(("heads", "blocks"), False))
            verdict = "open" if not apart else "cheaper" if c.rises["heads"].value < c.rises["blocks"].value else "dearer"
            said[verdict].append(f"{percent(c.share)} of {c.measure}")
    if not any(said.values()):
        return "Heads and blocks cannot be compared: at none of these costs are there sets of both that save as much."
    if n_documents < MIN_DOCUMENTS_FOR_CI:
        return f"Whether width is cheaper than depth is open: {too_few(n_documents)}."
    sentences = {
        "cheaper": "Removing heads costs less than removing blocks at {}.",
        "dearer": "Removing heads costs more than removing blocks at {}.",
        "open": "Heads and blocks cannot be told apart at {}.",
    }
    return " ".join(sentence.format(listed(said[verdict])) for verdict, sentence in sentences.items() if said[verdict])
