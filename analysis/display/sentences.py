"""What a report says in words: functions of tables, which claim no more than the intervals allow.

Block indices are 0-based and sets are printed in full. Losses are in nats per token, intervals are 95 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from analysis.display.format import listed, number, signed
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, Interval
from analysis.stats.rank_agreement import chance, documents_needed

NOUNS = {"blocks": "block", "mixers": "mixer", "ffns": "ffn", "heads": "head"}


def redundancy(table: pd.DataFrame, kind: str = "blocks") -> str:
    """Which parts cost something when taken out alone, which cost most, and how concentrated the loss is.

    `table`: tidy table of a sweep of one text (`analysis.runs.sweep_run.sweep_table`) with the metrics delta_nll, ppl and told.
    Raises ValueError when it has no rows of `kind` or more than one task.
    """
    parts, noun = _parts(table, kind), NOUNS[kind]
    n, high = len(parts), parts["ci_high"]
    documents = int(parts["n_documents"].min())
    top = parts.iloc[int(parts["delta_nll"].argmax())]
    if documents < MIN_DOCUMENTS_FOR_CI:
        return (
            f"Whether any {noun} can be told from the dense model is open: {too_few(documents)}. "
            f"The largest rise seen is {signed(top['delta_nll'])} nats per token, without {noun} {top['label']}."
        )
    significant = parts["significant"] == 1
    rate = "(false discovery rate 5 %)"
    if not significant.any():
        return (
            f"No {noun} of {n} can be told from the dense model when it is taken out {rate}. That is no proof that they are free: "
            f"their intervals reach {number(high.max())} nats per token. More documents would narrow them."
        )
    sentences = [f"Each of the {n} {kind} can be told from the dense model when it is taken out {rate}."]
    if not significant.all():
        free = parts[~significant]
        reach = f"{'its interval reaches' if len(free) == 1 else 'their intervals reach'} {number(free['ci_high'].max())} nats per token"
        sentences = [
            f"{significant.sum()} of {n} {kind} can be told from the dense model when taken out {rate}. "
            f"{_named(noun, free['label']).capitalize()} cannot: {reach}."
        ]
    if len(better := parts[significant & (parts["delta_nll"] < 0)]):
        sentences.append(f"The loss is lower without {_named(noun, better['label'], 'or')}.")
    if len(worse := parts[significant & (parts["delta_nll"] > 0)]):
        rivals = parts[high >= top["ci_low"]]
        sentences += [_costliest(top, noun) if len(rivals) == 1 else _tie(rivals, noun), _concentration(worse, parts, kind)]
    return " ".join(sentences)


def _parts(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    """One row for each part of `kind`: label, delta_nll with its bounds, told, ppl, dense_ppl."""
    rows = table[table["kind"] == kind]
    if rows.empty:
        raise ValueError(f"the table has no rows of kind {kind!r}")
    if rows["dataset"].nunique() > 1:
        raise ValueError(f"one text at a time, the table has {', '.join(sorted(rows['dataset'].unique()))}")
    by_metric = {metric: part.set_index(["block", "head"]) for metric, part in rows.fillna({"head": -1}).groupby("metric")}
    parts = by_metric["delta_nll"][["value", "ci_low", "ci_high", "n_documents"]].rename(columns={"value": "delta_nll"})
    parts = parts.assign(significant=by_metric["significant"]["value"], ppl=by_metric["ppl"]["value"]).fillna(
        {"ci_low": -np.inf, "ci_high": np.inf}
    )
    parts = parts.reset_index().astype({"block": int, "head": int}).sort_values(["block", "head"], ignore_index=True)
    dense = table[(table["kind"] == "dense") & (table["metric"] == "ppl")]["value"]
    labels = [f"{block}.{head}" if kind == "heads" else str(block) for block, head in zip(parts["block"], parts["head"], strict=True)]
    return parts.assign(label=labels, dense_ppl=float(dense.iloc[0]))


def _costliest(top: pd.Series, noun: str) -> str:
    interval = f"(95 % interval {number(top['ci_low'])} to {number(top['ci_high'])})"
    perplexity = f"perplexity {number(top['ppl'])} against {number(top['dense_ppl'])}"
    return f"{noun.capitalize()} {top['label']} costs most: {signed(top['delta_nll'])} nats per token {interval}, {perplexity}."


def _tie(rivals: pd.DataFrame, noun: str) -> str:
    return f"The most costly {noun} cannot be named: the intervals of {_named(noun, rivals['label'])} overlap."


def _concentration(worse: pd.DataFrame, parts: pd.DataFrame, kind: str) -> str:
    """The fewest parts that make up half of the summed rise; "concentrated" only if the intervals leave no doubt."""
    ranked = worse.sort_values("delta_nll", ascending=False)
    total = parts["delta_nll"].clip(lower=0).sum()
    few = ranked[: int(np.searchsorted(ranked["delta_nll"].cumsum(), total / 2)) + 1]
    low, others = few["ci_low"].clip(lower=0).sum(), parts.drop(few.index)["ci_high"].clip(lower=0).sum()
    least = low / (low + others)  # every interval at its unfavourable end
    share = f"{kind} {listed(few.sort_index()['label'])}" if len(few) > 1 else f"{NOUNS[kind]} {few['label'].iloc[0]}"
    if not least > len(few) / len(parts):
        return "Whether few of them hold most of the loss is not settled by these documents."
    return (
        f"{share.capitalize()} ({len(few)} of {len(parts)}) {'make' if len(few) > 1 else 'makes'} up "
        f"{few['delta_nll'].sum() / total:.0%} of the summed rise (at least {least:.0%} by the intervals)."
    ).replace("%", " %")


def agreement_sentence(tau: Interval, metric: str, *, n_blocks: int, n_documents: int) -> str:
    """Whether `metric` orders blocks as the rise in loss without them does; `tau`: Kendall's, its interval over documents.

    Support needs two things: an interval without zero (other documents would say the same) and a tau that a random
    order of `n_blocks` blocks seldom reaches (5 %), since an interval over documents says nothing about chance.
    """
    found = f"Kendall's tau between {metric} and the rise in loss is {number(tau.value)} over {n_blocks} blocks"
    if tau.low is None or tau.high is None:
        return f"{found}. Whether they agree is open: {too_few(n_documents)}."
    found += f" (95 % interval {number(tau.low)} to {number(tau.high)})"
    p = chance(tau.value, n_blocks)
    if tau.low <= 0 <= tau.high:
        return f"{found}. Agreement is not supported: the interval holds zero."
    if p > 0.05:
        return f"{found}. Agreement is not supported: a random order of {n_blocks} blocks agrees as much with probability {number(p)}."
    return f"{found}. {'Agreement is supported' if tau.value > 0 else 'The opposite order is supported'}."


def best_metric(taus: Mapping[str, Interval], gaps: Mapping[str, Interval], *, n_documents: int) -> str:
    """Which metric orders blocks most as the rise in loss does; a winner only when it beats every other.

    `taus`: Kendall's tau of each metric with the rise in loss. `gaps`: the highest tau minus each other's, over
    the same documents (`analysis.stats.rank_agreement.gap`). Raises ValueError when `gaps` are not of all other metrics.
    """
    leader = max(taus, key=lambda name: taus[name].value)
    if set(gaps) != set(taus) - {leader}:
        raise ValueError(f"gaps are needed between {leader} and every other metric")
    first = f"{leader} has the highest tau with the rise in loss ({number(taus[leader].value)})"
    if any(bound is None for bound in (*taus[leader], *(bound for gap in gaps.values() for bound in gap))):
        return f"{first}. Whether it is the best metric is open: {too_few(n_documents)}."
    if not (taus[leader].low or 0) > 0:
        return f"No metric is the best: even {leader}, which has the highest tau ({number(taus[leader].value)}), may not agree at all."
    if rivals := [name for name, gap in gaps.items() if not (gap.low or 0) > 0]:
        return f"{first}, but a winner is not supported: it cannot be told from {listed(rivals)}."
    return f"{first} and beats every other metric ({', '.join(gaps)})." if gaps else f"{first}; no other metric was measured."


def reliability_sentence(r: float | None, score: str, *, n_documents: int) -> str:
    """How much of an order is the documents' accident: little from 0.9 on, most below 0.5, by rule of thumb.

    `r`: `analysis.stats.rank_agreement.reliability`, Kendall, not stepped up.
    """
    if r is None:
        return f"How reliable the order by {score} is cannot be said: {too_few(n_documents)}."
    found = (
        f"Two halves of the documents ({n_documents // 2} each) order the blocks by {score} with a Kendall tau of {number(r)} on average"
    )
    if r >= 0.9:
        return f"{found}: the order hardly depends on the documents."
    return (
        f"{found}: {'parts of the order are' if r >= 0.5 else 'most of the order is'} noise, which pulls every agreement with it to zero."
    )


def order_sentence(curve: pd.DataFrame, score: str, share: float = 0.95) -> str:
    """How many documents a resolved order needs; `curve`: `analysis.stats.rank_agreement.resolution`, empty with too few documents."""
    if curve.empty:
        return f"Whether the order by {score} is resolved is open: too few documents for a curve (it needs {MIN_DOCUMENTS_FOR_CI})."
    last = curve.iloc[int(curve["n_documents"].argmax())]
    near, every = (f"{100 * last[pairs]:.0f} %" for pairs in ("adjacent", "all"))
    found = f"With {last['n_documents']:.0f} documents {near} of neighbours in the order by {score} are told apart, {every} of all pairs"
    n = documents_needed(curve, share)
    return f"{found}: the order is {'not resolved' if n is None else f'resolved from {n} documents on'}."


def cheapest(table: pd.DataFrame, kind: str = "blocks") -> str:
    """Which part costs least when taken out alone, and which others may cost as little."""
    parts, noun = _parts(table, kind), NOUNS[kind]
    least = parts.iloc[int(parts["delta_nll"].to_numpy().argmin())]
    n = int(parts["n_documents"].min())
    found = f"The {noun} that costs least is {least['label']}: {signed(least['delta_nll'])} nats per token"
    if n < MIN_DOCUMENTS_FOR_CI:
        return f"{found}. Whether others cost as little is open: {too_few(n)}."
    found += f" (95 % interval {number(least['ci_low'])} to {number(least['ci_high'])})."
    rivals = parts[(parts["ci_low"] <= least["ci_high"]) & (parts["label"] != least["label"])]
    if rivals.empty:
        return f"{found} Every other {noun} costs more."
    return f"{found} The intervals of {_named(noun, rivals['label'])} overlap with it, so these documents do not say which can go first."


def resolution(table: pd.DataFrame, documents: int, kind: str = "blocks") -> str:
    """How small an effect these documents can show, and what `documents` documents would: intervals shrink with the root."""
    parts, noun = _parts(table, kind), NOUNS[kind]
    n = int(parts["n_documents"].min())
    if n < MIN_DOCUMENTS_FOR_CI:
        return f"No effect has an interval here: {too_few(n)}."
    half = float(((parts["ci_high"] - parts["ci_low"]) / 2).median())
    found = f"With {n} documents the interval of a {noun} reaches about {number(half)} nats per token to either side (median)"
    if documents <= n:
        return f"{found}."
    return f"{found}; {documents} documents of the same length would bring that to about {number(half * (n / documents) ** 0.5)}."


def too_few(n_documents: int) -> str:
    """Why there is no interval."""
    if n_documents < MIN_DOCUMENTS_FOR_CI:
        return f"too few documents for an interval ({n_documents}, needs {MIN_DOCUMENTS_FOR_CI})"
    return f"no interval could be had from {n_documents} documents"


def intervals(n_documents: int, what: str = "bars") -> str:
    """What the bars (or bands) of a figure are, or why there are none; a sentence for captions."""
    if n_documents < MIN_DOCUMENTS_FOR_CI:
        return f"No {what}: {too_few(n_documents)}."
    return f"{what.capitalize()} are 95\u00a0% intervals over {n_documents} documents."


def _named(noun: str, labels: Iterable[str], word: str = "and") -> str:
    labels = list(labels)
    return f"{noun}{'s' if len(labels) > 1 else ''} {listed(labels, word)}"
