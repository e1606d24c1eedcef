"""What mixers and ffns do before anything is learnt, and after: rise in loss, divergence and Block Influence, over seeds.

A model that has learnt nothing has nothing to lose: without any part its loss is the same, which says nothing of redundancy. How far
its predictions move (divergence), and how far a part turns the stream (Block Influence), can be asked of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import stats

from analysis.comparison.redundancy import estimate
from analysis.comparison.study import Measured
from analysis.display.format import bounded, capital, count, escape, number
from analysis.stats.estimates import Estimate
from analysis.stats.intervals import RATE, Interval
from analysis.stats.seeds import ENOUGH, over_seeds

PARTS = {"mixers": "a mixer", "ffns": "an ffn"}
MEASURES = {"rise": "rise in loss (bits per byte)", "divergence": "divergence (nats per token)", "influence": "Block Influence"}
ROUNDING = 1e-6  # of a cosine in fp32
REDUNDANT = 0.1  # of what a part does when trained: what does less at the start is called redundant there


def of_parts(m: Measured) -> dict[tuple[str, str], Estimate]:
    """Means over the parts of a kind, by measure and kind; without those that were not measured."""
    sources = {
        "rise": {kind: m.losses(m.singles[kind], "bits") for kind in PARTS if kind in m.singles},
        "divergence": m.divergence,
        "influence": m.influence,
    }
    return {
        (measure, kind): estimate(lambda means: means.mean(-1), scores[kind])
        for measure, scores in sources.items()
        for kind in PARTS
        if kind in scores
    }


@dataclass(frozen=True)
class Start:
    """The parts of several trainings at their start and at their end."""

    trainings: Mapping[str, Sequence[tuple[Measured, Measured]]]  # by architecture: each seed at step 0, and at its last step

    @cached_property
    def values(self) -> dict[str, dict[tuple[str, str], tuple[tuple[float, ...], tuple[float, ...]]]]:
        """Of each seed at the start and at the end: by architecture, and by measure and kind."""
        found = {}
        for name, seeds in self.trainings.items():
            known = [(of_parts(first), of_parts(last)) for first, last in seeds]
            found[name] = {
                key: (tuple(first[key].value for first, _ in known), tuple(last[key].value for _, last in known)) for key in known[0][0]
            }
        return found

    @cached_property
    def table(self) -> pd.DataFrame:
        """One line an architecture and kind of part: each measure at the start and at the end, with intervals over seeds."""
        rows = []
        for name, values in self.values.items():
            for kind in PARTS:
                cells = {
                    f"{title}, {when}": bounded(over_seeds(values[measure, kind][end]))
                    for measure, title in MEASURES.items()
                    for end, when in enumerate(("at the start", "trained"))
                    if (measure, kind) in values
                }
                rows.append({"architecture": name, "seeds": len(self.trainings[name]), "part": kind, **cells})
        return pd.DataFrame(rows)

    @cached_property
    def conclusion(self) -> str:
        """A Markdown list: what the loss can say at the start, and for each architecture whether its parts are redundant there."""
        rises = [abs(v) for values in self.values.values() for kind in PARTS for v in values.get(("rise", kind), ((), ()))[0]]
        opening = "a model that has learnt nothing has nothing to lose, so that its loss says nothing of redundancy."
        if rises:
            opening = f"At step 0 no kind of part changes the loss by more than {number(max(rises))} bits per byte in the mean: {opening}"
        said = [sentence(escape(name), values) for name, values in self.values.items()]
        return "\n".join(f"- {line}" for line in [capital(opening), *filter(None, said)])


Values = Mapping[tuple[str, str], tuple[tuple[float, ...], tuple[float, ...]]]


def sentence(name: str, values: Values) -> str:
    """Are the parts of an architecture redundant at initialisation, and its mixers more than its ffns? By Block Influence, over seeds."""
    known = {kind: values["influence", kind] for kind in PARTS if ("influence", kind) in values}
    if len(known) < len(PARTS):
        return ""
    seeds = len(known["mixers"][0])
    if max(abs(value) for start, _ in known.values() for value in start) < ROUNDING:
        return (
            f"{name}: redundant at initialisation by construction. What its mixers and ffns add to the stream starts at zero, so that "
            f"Block Influence and divergence are 0 but for rounding ({count(seeds, 'seed')})."
        )
    parts = " and ".join(_redundant(PARTS[kind], start, end) for kind, (start, end) in known.items())
    said = f"{name}: at initialisation {parts} ({count(seeds, 'seed')})."
    return f"{said} {_mixers_or_ffns(known['mixers'][0], known['ffns'][0])}"


def _redundant(part: str, start: Sequence[float], end: Sequence[float]) -> str:
    """ "a mixer turns the stream by 0.0012 (0.0010 to 0.0014), 2 % of what it does when trained: it is redundant"."""
    share = over_seeds([a / b if b else np.nan for a, b in zip(start, end, strict=True)])
    turns = f"{part} turns the stream by {bounded(over_seeds(start))}, {bounded(_percent(share))}\u00a0% of what it does when trained"
    if share.low is None or share.high is None:
        return f"{turns}, of which {ENOUGH} seeds are needed to say more"
    verdict = "it is not" if share.low > REDUNDANT else "seeds leave open whether it is"
    if share.high < REDUNDANT:
        verdict = "it is redundant there"
    return f"{turns}: by the mark of {100 * REDUNDANT:.0f}\u00a0% {verdict}"


def _percent(share: Interval) -> Interval:
    return Interval(*(None if x is None else 100 * x for x in share))  # type: ignore[arg-type]


def _mixers_or_ffns(mixers: Sequence[float], ffns: Sequence[float]) -> str:
    """That attention is redundant at random initialisation, more than an MLP, is a claim of the field; a paired t-test over seeds."""
    apart = over_seeds([a - b for a, b in zip(mixers, ffns, strict=True)])
    if apart.low is None:
        return f"Whether its mixers are more redundant there than its ffns is not known: {ENOUGH} seeds are needed."
    p = float(stats.ttest_rel(mixers, ffns).pvalue) if apart.low != apart.high else float(apart.value == 0)
    if p > RATE:
        return f"Its mixers and ffns do not differ significantly there (paired t over seeds, p = {number(p)})."
    less, more = ("mixers", "ffns") if apart.value < 0 else ("ffns", "mixers")
    return f"Its {less} do less there than its {more}: they are the more redundant ones (paired t over seeds, p = {number(p)})."
