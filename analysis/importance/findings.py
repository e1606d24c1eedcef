"""What a report says in words about removal orders, spans and single tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from analysis.display.format import capital, count, listed, named, number, percent
from analysis.display.sentences import Effect, lowest, not_known
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, Interval
from analysis.stats.rank_agreement import chance


def overlap(causal: Sequence[int], others: Mapping[str, Sequence[int]], k: int, *, n_documents: int) -> str:
    """How many of the `k` blocks that go first by the loss go first by each metric as well, and whether that is chance.

    Removal orders of the same blocks. The chance is that of drawing k blocks at random (hypergeometric), times the number
    of metrics (Bonferroni), since any of them could have stood out.
    """
    n, first = len(causal), set(causal[:k])
    shared = {name: len(first & set(order[:k])) for name, order in others.items()}
    found = f"{capital(named('block', sorted(first)))} {'costs' if k == 1 else 'cost'} least when removed alone"
    if n_documents < MIN_DOCUMENTS_FOR_CI:
        return f"{found}. {capital(not_known('whether the metrics find the same', n_documents))}."
    each = ", ".join(f"{name} {m}" for name, m in sorted(shared.items(), key=lambda pair: -pair[1]))
    found += f". Of these {k}, each metric removes among its first {k}: {each} (by chance {number(k * k / n)})"
    better = [name for name, m in shared.items() if len(others) * stats.hypergeom.sf(m - 1, n, k, k) <= 0.05]
    if not better:
        return f"{found}. Of {count(len(others), 'metric')}, none is significantly better than chance."
    return f"{found}. Significantly better than chance: {listed(better)}."


TEXTS = {"sample": "samples of calibration text", "corpus": "corpora"}  # what an order may depend on, and several of it


def stability(pairs: pd.DataFrame, score: str, n_blocks: int, of: str = "sample") -> str:
    """Would other calibration text give the same order? `pairs`: `analysis.stats.rank_agreement.stability` of every two of TEXTS[`of`]."""
    if pairs.empty:
        return f"Whether other calibration text gives the same order by {score} is not known: there is only one {of}."
    k, least = int(pairs["k"].iloc[0]), float(pairs["tau"].min())
    found = (
        f"Any two {TEXTS[of]} share {percent(pairs['overlap'].mean())} of the first {'block' if k == 1 else f'{k} blocks'} by {score} "
        f"on average ({percent(pairs['chance'].iloc[0])} by chance), with a Kendall's tau of at least {number(least)}"
    )
    if chance(least, n_blocks) > 0.05 or least < 0:
        return f"{found}: no more than random orders of {n_blocks} blocks."
    alike = "hardly depends" if least >= 0.9 else "depends in part" if least >= 0.5 else "depends mostly"
    return f"{found}: the order {alike} on the {of}."


def straightest(spans: pd.DataFrame, length: int) -> str:
    """Which span of `length` blocks turns the stream least, and which others may turn it as little.

    `spans`: table of `analysis.metrics.spans.SpanStudy`, of which the angle at the last token is taken.
    """
    rows = spans[(spans["metric"] == "angular_last") & (spans["length"] == length)]
    least = rows.sort_values("value").iloc[0]
    one = length == 1
    among = f"Of all {'single blocks' if one else f'spans of {length} blocks'}, {span(int(least['start']), length)}"
    found = f"{among} {'turns' if one else 'turn'} the residual stream of the last token least: by {number(least['value'])} of a half turn"
    rivals = sorted(rows[(rows["ci_low"] <= least["ci_high"]) & (rows["start"] != least["start"])]["start"])
    interval, noun = Interval(*least[["value", "ci_low", "ci_high"]]), "block" if one else "the spans from block"
    return lowest(found, rivals, interval, int(least["n_documents"]), noun, "one turns it more", "turn it as little")


def linear(maps: pd.DataFrame, n_tokens: int, d_model: int) -> str:
    """For which spans a linear map does the work.

    `maps`: `analysis.metrics.linear_fit.linear_residual`, fitted to `n_tokens` tokens; empty when those were too few.
    """
    question = "whether a linear map could replace a span"
    if maps.empty:
        return f"{capital(question)} is not known: {n_tokens:,} tokens are too few for maps of {d_model:,} dimensions."
    documents = int(maps["n_documents"].min())
    if documents < MIN_DOCUMENTS_FOR_CI:
        return f"{capital(not_known(question, documents))}."
    low, high = maps["ci_low"].fillna(-np.inf), maps["ci_high"].fillna(np.inf)
    groups = {
        "A linear map does more than half of the work of {}.": high < 0.5,
        "A linear map does some of the work of {}, but not shown to be half of it.": (high >= 0.5) & (high < 1),
        "A linear map in place of {} is no better than plain removal.": low > 1,
        "Whether a linear map does any of the work of {} is not known.": (low <= 1) & (high >= 1),
    }
    spans = {s: [span(*row) for row in maps[those][["start", "length"]].to_numpy(int).tolist()] for s, those in groups.items()}
    return " ".join(sentence.format(listed(found)) for sentence, found in spans.items() if found)


def first_token(tau: Interval, gain: Interval, score: str, *, n_documents: int) -> str:
    """How much the first token of each document decides.

    `tau`: agreement of the orders with and without it; `gain`: by how much the one without agrees better with the loss.
    """
    found = f"Kendall's tau between the orders by {score} with and without the first token of each document is {number(tau.value)}"
    found += "" if tau.low is None or tau.high is None else f" (95\u00a0% interval {number(tau.low)} to {number(tau.high)})"
    significant = gain.low is not None and gain.high is not None and not gain.low <= 0 <= gain.high
    change = Effect(gain if tau.low is not None else Interval(gain.value, None, None), significant, n_documents).say(
        "whether the first token matters",
        "Without it the order agrees significantly better with the rise in loss: tau is higher by {}.",
        "Without it the order agrees significantly worse with the rise in loss: tau is lower by {}.",
        "Without it the agreement with the rise in loss does not change significantly: tau by {}.",
    )
    return f"{found}. {change}"


def span(start: int, length: int) -> str:
    """A span by its blocks."""
    return f"block {start}" if length == 1 else f"blocks {start} to {start + length - 1}"
