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

from analysis.comparison.measured import Measured
from analysis.comparison.redundancy import estimate
from analysis.display.format import bounded, count, escape, listed, number
from analysis.stats.estimates import Estimate
from analysis.stats.intervals import EXACT, RATE, Interval
from analysis.stats.seeds import ENOUGH, over_seeds

PARTS = {"mixers": "a mixer", "ffns": "an ffn"}
MEASURES = {"rise": "rise in loss (bits per byte)", "divergence": "divergence (nats per token)", "influence": "Block Influence"}
STILL = {"influence": "Block Influence", "divergence": "divergence"}
ROUNDING = 1e-6  # of a cosine, and of nats per token, in fp32
NOTHING = 0.01  # bits per byte: what a loss changes by that has nothing to lose
REDUNDANT = 0.1  # of what a part does when trained: what does less at the start is called redundant there

Values = Mapping[tuple[str, str], tuple[tuple[float, ...], tuple[float, ...]]]  # by measure and kind: seeds at the start, and at the end


def of_parts(m: Measured) -> dict[tuple[str, str], Estimate]:
    """Means over the parts of a kind, by measure and kind; without those that were not measured. A block that is a mixer alone is one."""
    measured = {
        "rise": {kind: m.losses(rises, "bits") for kind, rises in m.singles.items()},
        "divergence": m.divergence,
        "influence": m.influence,
    }
    found = {}
    for measure, scores in measured.items():
        named = dict(zip(PARTS, PARTS, strict=True)) if scores.keys() & PARTS.keys() else {"mixers": "blocks"}
        for kind, source in named.items():
            if source in scores:
                found[measure, kind] = estimate(lambda means: means.mean(-1), scores[source])
    return found


@dataclass(frozen=True)
class Start:
    """The parts of several trainings at their start and at their end."""

    trainings: Mapping[str, Sequence[tuple[Measured, Measured]]]  # by architecture: each seed at step 0, and at its last step

    @cached_property
    def values(self) -> dict[str, Values]:
        """By architecture."""
        found: dict[str, Values] = {}
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
                if cells:
                    rows.append({"architecture": name, "seeds": len(self.trainings[name]), "part": kind, **cells})
        return pd.DataFrame(rows)

    @cached_property
    def conclusion(self) -> str:
        """A Markdown list: what the loss can say at the start, and for each architecture whether its parts are redundant there.

        Of the tests of mixers beside ffns false discoveries are held to 5 %.
        """
        tests = {name: p for name, values in self.values.items() if (p := _apart(values)) is not None}
        adjusted = dict(zip(tests, stats.false_discovery_control(list(tests.values())), strict=True)) if tests else {}
        said = [self._opening, *(sentence(escape(name), values, adjusted.get(name)) for name, values in self.values.items())]
        return "\n".join(f"- {line}" for line in said if line)

    @property
    def _opening(self) -> str:
        rises = [abs(v) for values in self.values.values() for kind in PARTS for v in values.get(("rise", kind), ((), ()))[0]]
        if not rises:
            return ""
        most = f"by more than {number(max(rises))} bits per byte in the mean"
        if max(rises) > NOTHING:
            return f"At step 0 some kind of part changes the loss, but none {most}."
        return (
            f"At step 0 no kind of part changes the loss {most}: a model that has learnt nothing has nothing to lose, so that its loss "
            "says nothing of redundancy."
        )


def sentence(name: str, values: Values, p: float | None = None) -> str:
    """Are the parts of an architecture redundant at initialisation, and its mixers more than its ffns?

    By Block Influence, over seeds, and whether divergence says the same. `p`: of the test of mixers beside ffns.
    """
    known = {kind: values["influence", kind] for kind in PARTS if ("influence", kind) in values}
    if not known:
        return ""
    seeds = count(len(next(iter(known.values()))[0]), "seed")
    if still := [title for measure, title in STILL.items() if _still(values, measure)]:
        return (
            f"{name}: redundant at initialisation by construction. What its {listed(known)} add to the stream starts at zero, so that "
            f"{listed(still)} {'are' if len(still) > 1 else 'is'} 0 but for rounding ({seeds})."
        )
    shares = {kind: bounded(_percent(_share(*of))) for kind, of in known.items()}
    said = listed(f"{PARTS[kind]} does {share}\u00a0%" for kind, share in shares.items())
    first = _verdicts({kind: _share(*of) for kind, of in known.items()})
    other = _verdicts({kind: _share(*values["divergence", kind]) for kind in known if ("divergence", kind) in values})
    agrees = "" if not other or not first else " Divergence says the same." if other == first else f" By divergence {other}."
    verdict = f"by the mark of {100 * REDUNDANT:.0f}\u00a0% {first}" if first else f"{ENOUGH} seeds are needed to say more"
    return f"{name}: at the start {said} of what it does when trained (Block Influence, {seeds}): {verdict}.{agrees}{_more(known, p)}"


def _still(values: Values, measure: str) -> bool:
    """Is it 0 at the start, of every part and seed, and Block Influence as well?"""
    start = [abs(v) for name in {measure, "influence"} for kind in PARTS if (name, kind) in values for v in values[name, kind][0]]
    return any(name == measure for name, _ in values) and max(start) < ROUNDING


def _share(start: Sequence[float], end: Sequence[float]) -> Interval:
    """Of what a part does when trained, over seeds; exact where they are exactly alike, as what starts at zero is."""
    share = over_seeds([a / b if b else np.nan for a, b in zip(start, end, strict=True)])
    alike = share.low is None and len(start) >= ENOUGH and np.isfinite(share.value)
    return Interval(share.value, share.value, share.value) if alike else share


def _verdicts(shares: Mapping[str, Interval]) -> str:
    """ "mixers are redundant and ffns are not"; empty without intervals."""
    said = []
    for kind, (_, low, high) in shares.items():
        if low is None or high is None:
            return ""
        are = "are" if high < REDUNDANT else "are not" if low > REDUNDANT else "may be"
        said.append(f"{kind} {are} redundant")
    return listed(said)


def _percent(share: Interval) -> Interval:
    return Interval(*(None if x is None else 100 * x for x in share))  # type: ignore[arg-type]


def _apart(values: Values) -> float | None:
    """p of a paired t-test of mixers beside ffns over seeds: that attention is redundant at random initialisation, more than an MLP, is
    a claim of the field. None without both, and with too few seeds."""
    known = [np.array(values["influence", kind][0]) for kind in PARTS if ("influence", kind) in values]
    if len(known) < len(PARTS) or len(known[0]) < ENOUGH:
        return None
    mixers, ffns = known
    if (mixers - ffns).std() <= EXACT * np.abs(known).max():  # all alike: no test
        return None
    return float(stats.ttest_rel(mixers, ffns).pvalue)


def _more(known: Mapping[str, tuple[Sequence[float], Sequence[float]]], p: float | None) -> str:
    if len(known) < len(PARTS) or p is None:
        return ""
    if p > RATE:
        return f" Mixers and ffns turn the stream equally there, as far as seeds show (paired t, adjusted p = {number(p)})."
    less, more = sorted(known, key=lambda kind: float(np.mean(known[kind][0])))
    return f" Its {less} turn the stream less there than its {more} (paired t over seeds, adjusted p = {number(p)})."
