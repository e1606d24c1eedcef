"""What a sweep of single parts says: which cost something, which cost least and most, and what these documents can show."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from analysis.display.format import capital, named, number, signed
from analysis.display.sentences import NOUNS, NUMBERED, RATE, labels, lowest, not_known, share, too_few
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, Interval


def redundancy(table: pd.DataFrame, kind: str = "blocks") -> str:
    """Which parts cost something when removed alone, which cost most, and how concentrated the loss is.

    `table`: tidy table of a sweep of one text (`analysis.runs.sweep_run.sweep_table`) with the metrics delta_nll, ppl and significant.
    Heads and experts are counted where blocks are named. Raises ValueError when it has no rows of `kind` or more than one dataset.
    """
    parts, noun = _parts(table, kind), NOUNS[kind]
    documents = int(parts["n_documents"].min())
    top = parts.iloc[int(parts["delta_nll"].argmax())]
    largest = f"The largest rise is {signed(top['delta_nll'])} nats per token, without {noun} {top['label']}"
    if documents < MIN_DOCUMENTS_FOR_CI:
        return f"{capital(not_known(f'whether removing a single {noun} changes the loss', documents))}. {largest}."
    significant = parts["significant"] == 1
    sentences = [f"Removing a single {noun} changes the loss significantly for {share(significant.sum(), len(parts), kind)} {RATE}."]
    if not significant.any():
        return (
            f"{sentences[0]} That is no proof that they are redundant: the intervals reach {number(parts['ci_high'].max())} nats per "
            "token. More documents would narrow them."
        )
    if not significant.all():
        free = parts[~significant]
        reach = f"{'the interval reaches' if len(free) == 1 else 'the intervals reach'} {number(free['ci_high'].max())} nats per token"
        sentences.append(f"It is not significant for {_some(noun, free['label'])}: {reach}.")
    if len(better := parts[significant & (parts["delta_nll"] < 0)]):
        sentences.append(f"The loss is lower without {named(noun, better['label'], 'or')}.")
    if len(worse := parts[significant & (parts["delta_nll"] > 0)]):
        rivals = parts[(parts["ci_high"] >= top["ci_low"]) & (parts["label"] != top["label"])]["label"]
        ppl = f"perplexity {number(top['ppl'])} instead of {number(top['dense_ppl'])}"
        overlap = f", but the {'interval' if len(rivals) == 1 else 'intervals'} of {_some(noun, rivals)} "
        tie = f"{largest}{overlap}{'overlaps' if len(rivals) == 1 else 'overlap'} with its own."
        costs = f"{capital(noun)} {top['label']} costs most: {signed(top['delta_nll'])} nats per token {_interval(top)}, {ppl}."
        sentences += [tie if len(rivals) else costs, *([_concentration(worse, parts, kind)] if kind not in NUMBERED else [])]
    return " ".join(sentences)


def cheapest(table: pd.DataFrame, kind: str = "blocks") -> str:
    """Which part costs least when removed alone, and which others may cost as little."""
    parts, noun = _parts(table, kind), NOUNS[kind]
    least = parts.iloc[int(parts["delta_nll"].to_numpy().argmin())]
    n = int(parts["n_documents"].min())
    found = f"{capital(noun)} {least['label']} costs least when removed alone: {signed(least['delta_nll'])} nats per token"
    rivals = parts[(parts["ci_low"] <= least["ci_high"]) & (parts["label"] != least["label"])]["label"]
    return lowest(found, rivals, Interval(*least[["delta_nll", "ci_low", "ci_high"]]), n, noun, f"{noun} costs more", "cost as little")


def resolution(table: pd.DataFrame, documents: int, kind: str = "blocks") -> str:
    """How small an effect these documents can show, and what `documents` documents would: intervals shrink with the root."""
    parts, noun = _parts(table, kind), NOUNS[kind]
    n = int(parts["n_documents"].min())
    if n < MIN_DOCUMENTS_FOR_CI:
        return f"No effect has an interval here: {too_few(n)}."
    half = float(((parts["ci_high"] - parts["ci_low"]) / 2).median())
    found = f"With {n} documents the interval of a {noun} extends {number(half)} nats per token to either side (median)"
    if documents <= n:
        return f"{found}."
    return f"{found}; {documents} documents of the same length would narrow that to about {number(half * (n / documents) ** 0.5)}."


def _parts(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    """One row for each part of `kind`: label, delta_nll with its bounds, significant, ppl, dense_ppl."""
    rows = table[table["kind"] == kind]
    if rows.empty:
        raise ValueError(f"the table has no rows of kind {kind!r}")
    if rows["dataset"].nunique() > 1:
        raise ValueError(f"one text at a time, the table has {', '.join(sorted(rows['dataset'].unique()))}")
    place = ["block", *[noun for name, noun in NOUNS.items() if name == kind and kind in NUMBERED]]
    by_metric = {metric: part.set_index(place) for metric, part in rows.groupby("metric")}
    parts = by_metric["delta_nll"][["value", "ci_low", "ci_high", "n_documents"]].rename(columns={"value": "delta_nll"})
    parts = parts.assign(significant=by_metric["significant"]["value"], ppl=by_metric["ppl"]["value"]).fillna(
        {"ci_low": -np.inf, "ci_high": np.inf}
    )
    parts = parts.reset_index().astype(dict.fromkeys(place, int)).sort_values(place, ignore_index=True)
    dense = table[(table["kind"] == "dense") & (table["metric"] == "ppl")]["value"]
    return parts.assign(label=labels(parts, kind), dense_ppl=float(dense.iloc[0]))


def _some(noun: str, labels: Collection[str]) -> str:
    """Heads and experts, of which there are hundreds, are counted."""
    return f"{len(labels):,} other {noun}{'s' * (len(labels) > 1)}" if noun in ("head", "expert") else named(noun, labels)


def _interval(row: pd.Series) -> str:
    return f"(95\u00a0% interval {number(row['ci_low'])} to {number(row['ci_high'])})"


def _concentration(worse: pd.DataFrame, parts: pd.DataFrame, kind: str) -> str:
    """The fewest parts that make up half of the summed rise; "concentrated" only if the intervals leave no doubt."""
    ranked = worse.sort_values("delta_nll", ascending=False)
    total = parts["delta_nll"].clip(lower=0).sum()
    few = ranked[: int(np.searchsorted(ranked["delta_nll"].cumsum(), total / 2)) + 1]
    low, others = few["ci_low"].clip(lower=0).sum(), parts.drop(few.index)["ci_high"].clip(lower=0).sum()
    least = low / (low + others)  # every interval at its unfavourable end
    if not least > len(few) / len(parts):
        return f"These documents do not show whether the rise is concentrated in few {kind}."
    return (
        f"{capital(named(NOUNS[kind], few.sort_index()['label']))} ({len(few)} of {len(parts)}) "
        f"{'make' if len(few) > 1 else 'makes'} up {few['delta_nll'].sum() / total:.0%} of the summed rise "
        f"(at least {least:.0%} by the intervals)."
    ).replace("%", " %")
