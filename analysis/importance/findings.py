"""What a report says in words about removal orders, spans and single tokens; as `conclusions`, no more than intervals allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from analysis.display.format import listed, number, percent
from analysis.display.sentences import too_few
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, Interval
from analysis.stats.rank_agreement import chance


def overlap(causal: Sequence[int], others: Mapping[str, Sequence[int]], k: int, *, n_documents: int) -> str:
    """How many of the `k` blocks that go first by the loss go first by each metric as well, and whether that is chance.

    Removal orders of the same blocks. The chance is that of drawing k blocks at random (hypergeometric), times the number
    of metrics (Bonferroni), since any of them could have stood out.
    """
    n, first = len(causal), set(causal[:k])
    shared = {name: len(first & set(order[:k])) for name, order in others.items()}
    found = f"Alone, {_blocks(sorted(first))} {'costs' if k == 1 else 'cost'} least"
    if n_documents < MIN_DOCUMENTS_FOR_CI:
        return f"{found}. Whether the metrics name {'it' if k == 1 else 'them'} is open: {too_few(n_documents)}."
    named = ", ".join(f"{name} {m}" for name, m in sorted(shared.items(), key=lambda pair: -pair[1]))
    found += f". Shared with the first {k} by each metric: {named} (by chance {number(k * k / n)})"
    better = [name for name, m in shared.items() if len(others) * stats.hypergeom.sf(m - 1, n, k, k) <= 0.05]
    if not better:
        return f"{found}. With {len(others)} to choose from, none is more than chance can explain."
    return f"{found}. More than chance can explain: {listed(better)}."


TEXTS = {"sample": "samples of calibration text", "corpus": "corpora"}  # what an order may depend on, and several of it


def stability(pairs: pd.DataFrame, score: str, n_blocks: int, of: str = "sample") -> str:
    """Would other calibration text give the same order? `pairs`: `analysis.stats.rank_agreement.stability` of every two of TEXTS[`of`]."""
    if pairs.empty:
        return f"Whether other calibration text gives the same order by {score} is open: there is one {of}."
    k, least = int(pairs["k"].iloc[0]), float(pairs["tau"].min())
    found = (
        f"Any two {TEXTS[of]} share {percent(pairs['overlap'].mean())} of the first {_counted(k)} by {score} "
        f"on average ({percent(pairs['chance'].iloc[0])} by chance), and a Kendall tau of at least {number(least)}"
    )
    if chance(least, n_blocks) > 0.05 or least < 0:
        return f"{found}: that is no more than random orders of {n_blocks} blocks have."
    alike = "hardly depends" if least >= 0.9 else "depends in part" if least >= 0.5 else "depends mostly"
    return f"{found}: the order {alike} on the {of}."


def straightest(spans: pd.DataFrame, length: int) -> str:
    """Which span of `length` blocks turns the stream least, and which others may turn it as little.

    `spans`: table of `analysis.metrics.spans.SpanStudy`, of which the angle at the last token is taken.
    """
    rows = spans[(spans["metric"] == "angular_last") & (spans["length"] == length)]
    least = rows.sort_values("value").iloc[0]
    documents, one = int(least["n_documents"]), length == 1
    named = f"Of all {'single blocks' if one else f'spans of {length} blocks'}, {span(int(least['start']), length)}"
    found = f"{named} turn{'s' if one else ''} the stream of the last token least: by {number(least['value'])} of a half turn"
    if documents < MIN_DOCUMENTS_FOR_CI:
        return f"{found}. Whether others turn it as little is open: {too_few(documents)}."
    found += f" (95 % interval {number(least['ci_low'])} to {number(least['ci_high'])})."
    rivals = sorted(rows[(rows["ci_low"] <= least["ci_high"]) & (rows["start"] != least["start"])]["start"])
    if not rivals:
        return f"{found} Every other one turns it more." if len(rows) > 1 else found
    those = _blocks(rivals) if one else f"those that begin at {_blocks(rivals)}"
    return f"{found} By their intervals others may turn it as little: {those}."


def linear(maps: pd.DataFrame, n_tokens: int, d_model: int) -> str:
    """For which spans a linear map does the work.

    `maps`: `analysis.metrics.linear_fit.linear_residual`, fitted to `n_tokens` tokens; empty when those were too few.
    """
    if maps.empty:
        return (
            f"Whether a linear map could take a span's place is open: {n_tokens:,} tokens are too few for maps of {d_model:,} dimensions."
        )
    documents = int(maps["n_documents"].min())
    if documents < MIN_DOCUMENTS_FOR_CI:
        return f"Whether a linear map could take a span's place is open: {too_few(documents)}."
    low, high = maps["ci_low"].fillna(-np.inf), maps["ci_high"].fillna(np.inf)
    groups = {
        "A linear map does more than half of what {} to the stream": high < 0.5,
        "A linear map does something, but not shown to be half, of what {} to the stream": (high >= 0.5) & (high < 1),
        "A linear map is no better than plain removal in place of what {}": low > 1,
        "Whether a linear map does any of what {} is open": (low <= 1) & (high >= 1),
    }
    said = []
    for sentence, those in groups.items():
        named = [span(int(start), int(length)) for start, length in zip(maps["start"][those], maps["length"][those], strict=True)]
        if named:
            one = len(named) == 1 and maps["length"][those].iloc[0] == 1
            said.append(sentence.format(f"{listed(named)} {'does' if one else 'do'}") + ".")
    return " ".join(said)


def first_token(tau: Interval, gain: Interval, score: str, *, n_documents: int) -> str:
    """How much the first token of each document decides.

    `tau`: agreement of the orders with and without it; `gain`: by how much the one without agrees better with the loss.
    """
    found = f"Kendall's tau between the orders by {score} with and without the first token of each document is {number(tau.value)}"
    if None in (*tau, *gain) or gain.low is None or gain.high is None:
        return f"{found}. Whether the first token matters is open: {too_few(n_documents)}."
    found += f" (95 % interval {number(tau.low)} to {number(tau.high)})"
    change = f"{number(abs(gain.value))}, 95 % interval of the change {number(gain.low)} to {number(gain.high)}"
    if gain.low > 0:
        return f"{found}. Without it the order agrees better with the rise in loss (tau higher by {change})."
    if gain.high < 0:
        return f"{found}. Without it the order agrees worse with the rise in loss (tau lower by {change})."
    bounds = f"95 % interval of the change in tau {number(gain.low)} to {number(gain.high)}"
    return f"{found}. That the order agrees better or worse with the rise in loss without it is not supported ({bounds})."


def span(start: int, length: int) -> str:
    """A span by its blocks."""
    return f"block {start}" if length == 1 else f"blocks {start} to {start + length - 1}"


def _blocks(indices: Sequence[int]) -> str:
    return f"block{'s' if len(indices) > 1 else ''} {listed(indices)}"


def _counted(k: int) -> str:
    return "block" if k == 1 else f"{k} blocks"
