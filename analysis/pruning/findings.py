"""What can be said about removal paths: functions of sums per document, which claim no more than intervals allow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np

from adapters.ablation import Ablation
from analysis.display.format import bounded, number
from analysis.display.sentences import too_few
from analysis.removal.paths import Scored, size
from analysis.removal.savings import CostedPath, compare
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, Array, differs_from_zero

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
        return f"where the curve breaks is open: {too_few(documents)}; the largest rise seen is at {_at(before, after)}"
    others = [high for a, _, (_, _, high) in steps if a != before and high is not None]
    if rise.low is None or rise.low <= max([0.0, *others]):
        rivals = [_at(a, b) for a, b, r in steps if r.high is not None and r.high >= (rise.low or 0)]
        more = f" and {len(rivals) - 3} more" if len(rivals) > 3 else ""
        return f"there is no single break: the rises at {', '.join(rivals[:3])}{more} cannot be told apart"
    return f"the curve breaks at {_at(before, after)}: {bounded(rise)} nats per token, more than at any other step"


def _at(before: Ablation, after: Ablation) -> str:
    """A step of a path: how many parts are out behind it, which it took, and which came back."""
    back = _named(_less(before, after))
    return f"{number_of(size(after))} removed ({_named(_less(after, before))}{f', in the place of {back}' if back else ''})"


def _less(a: Ablation, b: Ablation) -> Ablation:
    """What `a` takes out and `b` does not; of a block it may be the mixer or the ffn alone."""
    return Ablation(mixers=(a.blocks | a.mixers) - (b.blocks | b.mixers), ffns=(a.blocks | a.ffns) - (b.blocks | b.ffns))


def _named(ablation: Ablation) -> str:
    parts = {"block": ablation.blocks, "mixer": ablation.mixers, "ffn": ablation.ffns}
    return "; ".join(f"{noun}{'s' * (len(out) > 1)} {', '.join(map(str, sorted(out)))}" for noun, out in parts.items() if out)


def number_of(blocks: float) -> str:
    """Blocks out, where halves are sub-layers."""
    return f"{blocks:g}"


def doubled(scored: Scored, name: str) -> Ablation | None:
    """The first set of a path whose perplexity is at least twice the dense model's; None when there is none."""
    return next((a for a in scored.paths[name] if scored.rise(a).value >= DOUBLED), None)


def winners(tokens: Array, *contests: Mapping[str, Array]) -> list[list[str]]:
    """Of each contest the names of lowest loss (documents,): one that beats every other, or all that cannot be told from the lowest.

    `tokens`: of the documents. Paired t-tests over these, false discoveries held to 5 % among all pairs of all contests. Equal
    losses are equal sets.
    """
    pairs = [(i, a, b) for i, losses in enumerate(contests) for a, b in combinations(losses, 2)]
    significant = differs_from_zero(np.array([contests[i][a] - contests[i][b] for i, a, b in pairs]), tokens)
    apart = {(i, frozenset((a, b))) for (i, a, b), yes in zip(pairs, significant, strict=True) if yes}
    lowest = [min(losses, key=lambda name: losses[name].sum()) for losses in contests]
    return [
        [name for name in losses if name == best or (i, frozenset((name, best))) not in apart]
        for i, (losses, best) in enumerate(zip(contests, lowest, strict=True))
    ]


def contest(scored: Scored, names: Sequence[str], titles: Mapping[str, str], null: Sequence[str]) -> str:
    """Which order wins after how many removals and by how much, and where the orders are no better than the best random one.

    All are orders of the same kind of parts. False discoveries are held to 5 % over all sizes: among all pairs of orders, and
    among the comparisons with random ones.
    """
    documents = len(scored.tokens)
    if documents < MIN_DOCUMENTS_FOR_CI:
        return f"Which order is best is open: {too_few(documents)}."
    at = {name: {size(a): a for a in scored.paths[name]} for name in (*names, *null)}
    shared = sorted(set.intersection(*(set(sets) for sets in at.values())) - {0.0})
    if not shared:
        return "No number of removed blocks was scored for all orders."
    sets = [{name: at[name][k] for name in names} for k in shared]
    found: dict[tuple[str, ...], dict[float, str]] = {}  # evidence by size, by who is best alone
    lowest = winners(scored.tokens, *({n: scored.nll[a] for n, a in of.items()} for of in sets))
    for k, of, first in zip(shared, sets, lowest, strict=True):
        alone = tuple(first) if len({of[name] for name in first}) == 1 else ()
        found.setdefault(alone, {})[k] = _margin(scored, of, alone, titles) if alone else _tied(scored, of, first, titles)
    sentences = [_said(who, evidence, titles, len(names)) for who, evidence in sorted(found.items())]
    leads = np.array([_lowest(scored, of.values()) - _lowest(scored, (at[n][k] for n in null)) for k, of in zip(shared, sets, strict=True)])
    better = differs_from_zero(leads, scored.tokens) & (leads.sum(1) < 0)
    if lucky := [k for k, yes in zip(shared, better, strict=True) if not yes]:
        sentences.append(f"With {_blocks(lucky)} removed the best order cannot be told from the best of {len(null)} random ones.")
    return " ".join(sentences)


def _lowest(scored: Scored, sets: Iterable[Ablation]) -> Array:
    """Losses (documents,) of the set that has the lowest."""
    return min((scored.nll[ablation] for ablation in sets), key=np.sum)


def _said(who: Sequence[str], evidence: Mapping[float, str], titles: Mapping[str, str], orders: int) -> str:
    """A sentence on the sizes at which the same orders are best alone, or none is; shown at the smallest and at the largest."""
    shown = "; ".join(f"at {k:g} {evidence[k]}" for k in dict.fromkeys((min(evidence), max(evidence))))
    where = f"With {_blocks(evidence)} removed"
    if not who:
        return f"{where} no single order is best: the lowest cannot be told from others ({shown})."
    if len(who) == orders:
        return f"{where} all orders take out the same blocks."
    leaders, have = " and ".join(titles[name] for name in who), "have" if len(who) > 1 else "has"
    return f"{where} {leaders} {have} the lowest loss, below every other order found ({shown})."


def _margin(scored: Scored, sets: Mapping[str, Ablation], leaders: Sequence[str], titles: Mapping[str, str]) -> str:
    """How far the winners' set is below the next: nats a token with the interval of the paired difference."""
    best = sets[leaders[0]]
    others = [name for name in sets if sets[name] != best]
    if not others:
        return ""
    second = min(others, key=lambda name: scored.nll[sets[name]].sum())
    return f"by {bounded(scored.rise(sets[second], best))} nats per token below {titles[second]}"


def _tied(scored: Scored, sets: Mapping[str, Ablation], first: Sequence[str], titles: Mapping[str, str]) -> str:
    """Orders that cannot be told from the lowest, which comes first, and the lowest rise."""
    ranked = sorted(first, key=lambda name: scored.nll[sets[name]].sum())
    return f"{', '.join(titles[name] for name in ranked)}, the first with a rise of {bounded(scored.rise(sets[ranked[0]]))}"


def at_equal_size(scored: Scored, titles: Mapping[str, str], shares: Sequence[float] = SHARES) -> str:
    """Which order of blocks or of sub-layers wins where as many parameters of the blocks are gone.

    Losses lie on a line between neighbouring sets (`analysis.removal.savings.compare`). Empty when there are no intervals, and no
    order of sub-layers: orders of blocks are held against each other by `contest`.
    """
    if len(scored.tokens) < MIN_DOCUMENTS_FOR_CI or not any(a.mixers or a.ffns for name in titles for a in scored.paths[name]):
        return ""
    paths = {name: _costed(scored, name) for name in titles}
    sentences = ["Sub-layers are not in this contest by blocks."]
    for found in compare(paths, scored.model.spec, [MEASURE], shares):
        if len(found.rises) < len(paths):  # the first scored set of some takes out more
            continue
        ranked = sorted(found.rises, key=lambda name: found.rises[name].value)
        lowest = found.rises[ranked[0]]
        leaders = [name for name in ranked if found.rises[name] == lowest]  # of the same sets
        rivals = [
            titles[n]
            for n in ranked
            if n not in leaders and not found.significant.get((ranked[0], n), found.significant.get((n, ranked[0])))
        ]
        tail = f"which cannot be told from {', '.join(rivals)}" if rivals else "below every other order found"
        sentences.append(
            f"Where {100 * found.share:.0f} % of the blocks' parameters are gone {' and '.join(titles[n] for n in leaders)} "
            f"{'have' if len(leaders) > 1 else 'has'} the lowest rise, {bounded(lowest)} nats per token, {tail}."
        )
    return " ".join(sentences)


def _costed(scored: Scored, name: str) -> CostedPath:
    path = scored.paths[name]
    return CostedPath(path[1:], tuple(scored.costs[a] for a in path[1:]), np.stack([scored.nll[a] for a in path]), scored.tokens)


def faster(dense: Mapping, short: Mapping) -> str:
    """How much faster a pruned model is; only when its slowest round beats the dense model's fastest. Rows of `speeds`."""
    said = []
    for what, does in (("prefill", "prompts are read"), ("decode", "tokens are made")):
        if short[f"{what}_worst"] > dense[what]:
            said.append(f"{does} {number(short[what] / dense[what])} times as fast as by the dense model")
        else:
            said.append(f"whether {does} faster cannot be told from the noise of this machine")
    return f"{'; '.join(said)}.".capitalize()


def _blocks(values: Iterable[float]) -> str:
    """Numbers of blocks as a list in which runs of three or more are ranges."""
    out: list[list[float]] = []
    for k in sorted(values):
        if out and k == out[-1][-1] + 1:
            out[-1].append(k)
        else:
            out.append([k])
    said = ", ".join(f"{run[0]:g} to {run[-1]:g}" if len(run) > 2 else ", ".join(f"{k:g}" for k in run) for run in out)
    return f"{said} block{'s' * (said != '1')}"


def free_blocks(scored: Scored, name: str, title: str) -> str:
    """How many blocks an order takes out before perplexity doubles."""
    over = doubled(scored, name)
    n = len(scored.model.spec.blocks)
    if over is None:
        return f"Perplexity stays below twice the dense model's along the whole order by {title}."
    rise = scored.rise(over)
    last = [a for a in scored.paths[name] if size(a) < size(over)][-1]
    before = scored.rise(last)
    if rise.low is None:
        doubts = [too_few(len(scored.tokens))]
    else:
        doubts = ["the interval of the former reaches above that"] if (before.high or 0) >= DOUBLED else []
        doubts += ["the interval of the latter reaches below that"] if rise.low <= DOUBLED else []
    doubt = f" ({', and '.join(doubts)})" if doubts else ""
    return (
        f"By {title}, perplexity doubles between {number_of(size(last))} and {number_of(size(over))} of {n} blocks removed{doubt}; "
        f"with {number_of(size(last))} removed ({number(100 * scored.share('all parameters', last))} % of all parameters) the loss is "
        f"{bounded(before)} nats per token above the dense model's."
    )
