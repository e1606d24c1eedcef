"""What can be said about removal paths: functions of sums per document, which claim no more than intervals allow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from adapters.ablation import Ablation
from analysis.display.format import bounded, capital, count, listed, named, number
from analysis.display.sentences import Verdict, not_known, too_few, verdicts
from analysis.removal.paths import Scored, size
from analysis.removal.savings import compare
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, differs_from_zero

MEASURE, SHARES = "block parameters", (0.1, 0.25, 0.5)  # where orders of different parts are compared
DOUBLED = float(np.log(2))  # rise in loss at which perplexity is twice the dense model's


def breaks(scored: Scored, name: str) -> str:
    """Where a curve breaks, as a clause: the removal that costs most, named when its interval is above that of every other."""
    steps = scored.steps(name)
    documents = len(scored.tokens)
    before, after, rise = max(steps, key=lambda step: step[2].value)
    if not rise.value > 0:
        return "the loss does not rise"
    if documents < MIN_DOCUMENTS_FOR_CI:
        return f"{not_known('where the curve breaks', documents)}; the largest rise is at {_at(before, after)}"
    others = [high for a, _, (_, _, high) in steps if a != before and high is not None]
    if rise.low is None or rise.low <= max([0.0, *others]):
        rivals = [_at(a, b) for a, b, r in steps if r.high is not None and r.high >= (rise.low or 0)]
        more = f" and {len(rivals) - 3} more" if len(rivals) > 3 else ""
        return f"there is no single break: the intervals of the rises at {', '.join(rivals[:3])}{more} overlap"
    return f"the curve breaks at {_at(before, after)}: {bounded(rise)} nats per token, more than at any other step"


def _at(before: Ablation, after: Ablation) -> str:
    """A step of a path: how many blocks are removed after it, which it removed, and which came back."""
    back = _named(_less(before, after))
    return f"{size(after):g} removed ({_named(_less(after, before))}{f', in place of {back}' if back else ''})"


def _less(a: Ablation, b: Ablation) -> Ablation:
    """What `a` removes and `b` does not; of a block it may be the mixer or the ffn alone."""
    return Ablation(mixers=(a.blocks | a.mixers) - (b.blocks | b.mixers), ffns=(a.blocks | a.ffns) - (b.blocks | b.ffns))


def _named(ablation: Ablation) -> str:
    parts = {"block": ablation.blocks, "mixer": ablation.mixers, "ffn": ablation.ffns}
    return "; ".join(named(noun, sorted(out)) for noun, out in parts.items() if out)


def doubled(scored: Scored, name: str) -> Ablation | None:
    """The first set of a path whose perplexity is at least twice the dense model's; None when there is none."""
    return next((a for a in scored.paths[name] if scored.rise(a).value >= DOUBLED), None)


def contest(scored: Scored, names: Sequence[str], titles: Mapping[str, str], null: Sequence[str]) -> str:
    """Which order wins after how many removals and by how much, and where the orders are no better than the best random one.

    All are orders of the same kind of parts. False discoveries are held to 5 % over all sizes: among all pairs of orders, and
    among the comparisons with random ones.
    """
    documents = len(scored.tokens)
    if documents < MIN_DOCUMENTS_FOR_CI:
        return f"{capital(not_known('which order is best', documents))}."
    at = {name: {size(a): a for a in scored.paths[name]} for name in (*names, *null)}
    shared = sorted(set.intersection(*(set(sets) for sets in at.values())) - {0.0})
    if not shared:
        return "No number of removed blocks was scored for all orders."
    losses = [{name: scored.nll[at[name][k]] for name in at} for k in shared]
    found: dict[tuple[str, ...], dict[float, str]] = {}  # evidence by size, by who wins
    for k, verdict in zip(shared, verdicts(scored.tokens, *({n: of[n] for n in names} for of in losses)), strict=True):
        wins = () if verdict.rivals else tuple(sorted(verdict.leaders, key=names.index))
        found.setdefault(wins, {})[k] = _evidence(scored, {n: at[n][k] for n in names}, verdict, titles)
    sentences = [_said(who, evidence, titles, len(names)) for who, evidence in sorted(found.items())]
    leads = np.array([min((of[n] for n in names), key=np.sum) - min((of[n] for n in null), key=np.sum) for of in losses])
    better = differs_from_zero(leads, scored.tokens).significant & (leads.sum(1) < 0)
    if lucky := [k for k, yes in zip(shared, better, strict=True) if not yes]:
        sentences.append(
            f"With {_blocks(lucky)} removed, the best order is not significantly better than the best of "
            f"{count(len(null), 'random order')}."
        )
    return " ".join(sentences)


def _evidence(scored: Scored, sets: Mapping[str, Ablation], verdict: Verdict, titles: Mapping[str, str]) -> str:
    """How far the winners are below the next, or which orders are not significantly different and the lowest rise."""
    first = sets[verdict.leaders[0]]
    if verdict.rivals:
        ties = listed(titles[name] for name in (*verdict.leaders, *verdict.rivals))
        return f"{ties}, lowest rise {bounded(scored.rise(first))}"
    others = [name for name in sets if name not in verdict.leaders]
    if not others:
        return ""
    second = min(others, key=lambda name: scored.nll[sets[name]].sum())
    return f"by {bounded(scored.rise(sets[second], first))} nats per token below {titles[second]}"


def _said(who: Sequence[str], evidence: Mapping[float, str], titles: Mapping[str, str], orders: int) -> str:
    """A sentence on the sizes at which the same orders win, or none does; shown at the smallest and at the largest."""
    shown = "; ".join(f"at {k:g} {evidence[k]}" for k in dict.fromkeys((min(evidence), max(evidence))))
    where = f"With {_blocks(evidence)} removed,"
    if not who:
        return f"{where} no single order is best: the lowest is not significantly different from others ({shown})."
    if len(who) == orders:
        return f"{where} all orders have removed the same blocks."
    return f"{where} {_have(who, titles)} the lowest loss, significantly below every other order ({shown})."


def _have(leaders: Sequence[str], titles: Mapping[str, str]) -> str:
    return f"{' and '.join(titles[name] for name in leaders)} {'have' if len(leaders) > 1 else 'has'}"


def at_equal_size(scored: Scored, titles: Mapping[str, str], shares: Sequence[float] = SHARES) -> str:
    """Which order of blocks or of sub-layers wins where as many parameters of the blocks are gone.

    Losses lie on a line between neighbouring sets (`analysis.removal.savings.compare`). Empty when there are no intervals, and no
    order of sub-layers: orders of blocks are held against each other by `contest`.
    """
    if len(scored.tokens) < MIN_DOCUMENTS_FOR_CI or not any(a.mixers or a.ffns for name in titles for a in scored.paths[name]):
        return ""
    curves = {titles[name]: scored.curve(name) for name in titles}
    sentences = ["Orders of sublayers are compared with orders of blocks at equal parameter savings."]
    for found in compare(curves, [MEASURE], shares):
        if (verdict := found.verdict) and len(found.rises) == len(curves):  # else the first scored set of some removes more
            leaders = verdict.leaders
            sentences.append(
                f"With {found.at} removed, {_have(leaders, dict(zip(leaders, leaders, strict=True)))} the lowest rise, "
                f"{bounded(found.rises[leaders[0]])} nats per token{verdict.ending('lower than', '', 'that of every other order')}."
            )
    return " ".join(sentences)


def faster(dense: Mapping, short: Mapping) -> str:
    """How much faster a pruned model is; only when its slowest round beats the dense model's fastest. Rows of `speeds`."""
    said = []
    for what, does, noun in (("prefill", "prompts are read", "reading"), ("decode", "tokens are generated", "generation")):
        if short[f"{what}_worst"] > dense[what]:
            said.append(f"{does} {number(short[what] / dense[what])} times as fast as by the unpruned model")
        else:
            said.append(f"a speed-up of {noun} is not larger than the noise of this machine")
    return f"{'; '.join(said)}.".capitalize()


def _blocks(values: Iterable[float]) -> str:
    """Numbers of blocks as a list in which runs of three or more are ranges."""
    out: list[list[float]] = []
    for k in sorted(values):
        if out and k == out[-1][-1] + 1:
            out[-1].append(k)
        else:
            out.append([k])
    said = listed(part for run in out for part in ([f"{run[0]:g} to {run[-1]:g}"] if len(run) > 2 else [f"{k:g}" for k in run]))
    return f"{said} block{'s' * (said != '1')}"


def free_blocks(scored: Scored, name: str, title: str) -> str:
    """How many blocks an order removes before perplexity doubles."""
    over = doubled(scored, name)
    if over is None:
        return f"Removing blocks by {title}, perplexity stays below twice that of the unpruned model along the whole order."
    last = [a for a in scored.paths[name] if size(a) < size(over)][-1]
    rise, before = scored.rise(over), scored.rise(last)
    doubts = [
        *([too_few(len(scored.tokens))] if rise.low is None else []),
        *(["the interval at the former includes a doubling"] if (before.high or 0) >= DOUBLED else []),
        *(["the interval at the latter does not exclude less"] if rise.low is not None and rise.low <= DOUBLED else []),
    ]
    return (
        f"Removing blocks by {title}, perplexity doubles between {size(last):g} and {size(over):g} of {len(scored.model.spec.blocks)} "
        f"blocks removed{f' ({listed(doubts)})' if doubts else ''}; with {size(last):g} removed "
        f"({number(100 * scored.share('all parameters', last))}\u00a0% of all parameters) the loss is {bounded(before)} nats per token "
        "above that of the unpruned model."
    )
