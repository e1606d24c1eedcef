"""What a comparison says of groups of models, as its notebook shows it: tables and sentences."""

from __future__ import annotations

from functools import cached_property
from itertools import combinations

import numpy as np
import pandas as pd

from analysis.comparison import verdicts
from analysis.comparison.claims import CLAIMED, Holds, Side
from analysis.comparison.pairs import OfPairs
from analysis.comparison.questions import Seeded, answer, reconciled, whose
from analysis.comparison.redundancy import SUMMARIES
from analysis.comparison.study import SHARE
from analysis.comparison.verdicts import Contrast
from analysis.display.format import bounded, escape, listed, number, plain
from analysis.stats.seeds import ENOUGH, over_seeds
from analysis.zoo.groups import Group, of_depths, two_things, unequal_steps

LEAD, CAN_GO, MAIN = "effective", "removable", "area"  # the summaries that words are about: the first two in plain units
SENTENCE = (LEAD, CAN_GO, MAIN)  # what is said of two groups
RECONCILED = (LEAD, CAN_GO, "costliest", "others", "together")
OVER_SEEDS = "mean, with interval over seeds"
MOST = 0.5  # of what single blocks cost: what is said to sit in one
WIDE = 4  # columns of intervals beside the names of two groups
LIMITS = (
    "Summaries describe removal without retraining, on one kind of text. Where losses are small compared with their noise, they are "
    "spread out or concentrated by chance, so a summary of single blocks is less certain than its interval. Blocks are removed in the "
    "order of their rise in loss alone on calibration text; a searched order might cost less. How many can go is read off the line between "
    "whole blocks."
)


class Comparison(OfPairs):
    """Of all groups of models, beside the tables of each model. Printed, it is its conclusion."""

    def __str__(self) -> str:
        return plain(self.conclusion)

    @cached_property
    def spreads(self) -> pd.DataFrame:
        """One line a summary of each group of several seeds: how far seeds lie apart, beside the interval over documents."""
        rows = []
        for group in self.of.groups:
            for name, summary in SUMMARIES.items() if len(group.members) > 1 else ():
                if name not in self.has(group):
                    continue
                values = self.values(group, name)
                rows.append(
                    {
                        "group": group.name,
                        "seeds": len(values),
                        "summary": summary.title,
                        "of each seed": ", ".join(map(number, values)),
                        "mean, with interval over documents": bounded(self.mean(group, name).interval),
                        OVER_SEEDS: bounded(over_seeds(values)),
                        "range over seeds": max(values) - min(values),
                    }
                )
        some = any(len(group.members) >= ENOUGH for group in self.of.groups)
        return pd.DataFrame(rows) if some or not rows else pd.DataFrame(rows).drop(columns=OVER_SEEDS)  # two seeds have no interval

    @cached_property
    def spread(self) -> str:
        sides = [(Side(escape(group.name), self.values(group, MAIN)), self.mean(group, MAIN).interval) for group in self.of.groups]
        said = verdicts.spread(SUMMARIES[MAIN], sides)
        return said or "No two models here differ only in their seed: the variation between seeds is not known."

    @cached_property
    def answered(self) -> str:
        """Is redundancy the Transformer's? Empty where that was not asked of these models."""
        told = [claim for (a, b, name), claim in self.claims.items() if name == CAN_GO and (a, b) in self.told]
        return whose(self._seeded(CAN_GO), [claim for claim in told if claim.matched != "equal loss"])

    @cached_property
    def questions(self) -> str:
        """A Markdown list: an answer to each question, of all groups; empty where there is nothing to compare."""
        said = []
        for name in (name for name, summary in SUMMARIES.items() if summary.asks and self.claims):
            told = [claim for (a, b, of), claim in self.claims.items() if of == name and (a, b) in self.told]
            if seeded := self._seeded(name):
                said.append(answer(name, seeded, told, self._of_heads if name == "against" else ""))
        return "\n".join(f"- {sentence}" for sentence in said if sentence)

    @property
    def _of_heads(self) -> str:
        """How many of the heads as many parameters are: heads hold little of some architectures, and much of others."""
        shares = {group.name: next(m.in_heads for m in self.of.models if m.name in group.members) for group in self.main}
        known = [f"{100 * SHARE / of:.0f}\u00a0% in {escape(name)}" for name, of in shares.items() if of >= SHARE]
        return f"A tenth of the blocks' parameters is, of those of all heads, {listed(known)}." if known else ""

    @property
    def reach(self) -> str:
        """How seeds were tested, once for all questions; empty where there are not enough."""
        return verdicts.reach(self.claims.values())

    @cached_property
    def reconciled(self) -> str:
        """How more blocks can be used and yet more be dispensable, for the pair of most seeds of which that is so; others by name."""
        pairs = [found for pair in self.told if (found := self._wider(pair))]
        if not pairs:
            return ""
        first, *others = sorted(pairs, key=lambda pair: -sum(len(group.members) for group in pair))
        names = escape(first[0].name), escape(first[1].name)
        means = {escape(g.name): {name: float(np.mean(self.values(g, name))) for name in RECONCILED} for g in first}
        also = "; ".join(f"{escape(a.name)} beside {escape(b.name)}" for a, b in others)
        return reconciled(means, names, self.blocks(first[0]), also)

    def _wider(self, pair: tuple[str, str]) -> tuple[Group, Group] | None:
        """The pair with that one first which uses more of its blocks and can lose more of them, whose costliest block costs less; all
        three are claimed, and what the other loses sits in one block, the last to go. None where it is not so."""
        of = [self.claims.get((*pair, name)) for name in (LEAD, CAN_GO, "costliest")]
        if any(claim is None or claim.holds not in CLAIMED for claim in of):
            return None
        higher = [claim.sides[0].name for claim in of if claim]
        wide, narrow = sorted(self.both(pair), key=lambda group: escape(group.name) != higher[0])
        if self.blocks(wide) != self.blocks(narrow) or higher[1:] != [escape(wide.name), escape(narrow.name)]:
            return None
        known = np.isfinite([value for g in (wide, narrow) for name in RECONCILED for value in self.values(g, name)]).all()
        one = min(m.in_one_block for m in self.of.models if m.name in narrow.members)
        return (wide, narrow) if known and one > MOST else None

    def _seeded(self, name: str) -> list[Seeded]:
        groups = [group for group in self.main if name in self.has(group)]
        return [Seeded(escape(g.name), self.spec(g), self.values(g, name), self.mean(g, name).interval) for g in groups]

    @cached_property
    def over_seeds(self) -> pd.DataFrame:
        """One line a question and pair of groups with seeds enough for a word on architectures; empty where there is none."""
        rows = [
            {
                "question": SUMMARIES[name].title,
                "first": a,
                "second": b,
                "matched by": claim.matched,
                "difference, with interval over seeds": bounded(claim.seeds.interval),
                "p": number(claim.seeds.p),
                "p, adjusted": number(claim.p),
                "p, exact permutation": number(claim.seeds.exact),
                "the least it can be": number(claim.seeds.least),
                "claim": claim.holds.value,
            }
            for (a, b, name), claim in self.claims.items()
            if claim.of_architectures
        ]
        return pd.DataFrame(rows)

    @property
    def seed_tables(self) -> list[tuple[str, pd.DataFrame]]:
        """`over_seeds` in tables that a page holds: one of each pair, behind its caption."""
        found, shown = [], ["question", "difference, with interval over seeds", "p", "p, adjusted", "p, exact permutation"]
        for (a, b, matched), rows in self.over_seeds.groupby(["first", "second", "matched by"], sort=False) if len(self.over_seeds) else ():
            caption = (
                f"What seeds show of {escape(a)} minus {escape(b)} at {matched}: Welch's t-test, and the exact permutation test, which can "
                f"give {rows['the least it can be'].iloc[0]} at least."
            )
            said = np.where(rows["claim"] == Holds.ARCHITECTURES.value, "yes", "no")
            found.append((caption, rows[shown].assign(**{"of the architectures": said})))
        return found

    @cached_property
    def differences(self) -> pd.DataFrame:
        """One line a pair of groups: the first's summaries less the second's; a star where the difference is significant."""
        rows = []
        for (a, b), gaps in self.gaps.items():
            cells = {
                SUMMARIES[name].short: bounded(gap.interval) + (" *" if significant else "") for name, (gap, significant) in gaps.items()
            }
            rows.append({"first": a, "second": b, "matched by": self.matched(a, b) or "nothing", **cells})
        return pd.DataFrame(rows).fillna("")

    @property
    def difference_tables(self) -> list[pd.DataFrame]:
        """The same in tables that a page holds: WIDE summaries at a time."""
        pairs, found = list(self.differences)[:3], list(self.differences)[3:]
        return [self.differences[[*pairs, *found[i : i + WIDE]]] for i in range(0, len(found), WIDE)]

    @cached_property
    def conclusion(self) -> str:
        """A sentence or two for each pair of groups, those that are further apart first, and then what holds for all of them."""
        skipped = self._skipped
        if not self.pairs:
            every = list(combinations(self.of.groups, 2))
            same = "are one architecture at different steps of training" if every else "differ only in their seed"
            if any(two_things(*pair) for pair in every):
                return "These models differ in their architecture and in their depth: compare those of one depth, or of one architecture."
            return f"These models {same}: there is no second architecture or training to compare them with."
        if not self.gaps:
            return skipped
        sides = [(self.side(a, MAIN), self.side(b, MAIN)) for a, b in map(self.both, self.told)]
        said = [f"- {self.sentence(a, b)}" for a, b in sorted(self.told, key=lambda pair: -self._apart(pair))]
        return "\n\n".join(["\n".join(said), " ".join(filter(None, [verdicts.few_seeds(sides), self.alike]))])

    @property
    def alike(self) -> str:
        """Which pairs differ in their architecture alone, and which seeds of early checkpoints are compared."""
        alike = verdicts.controlled([(escape(a), escape(b), self._relation(a, b)) for a, b in self.told])
        return " ".join(filter(None, [alike, self._skipped]))

    @property
    def _skipped(self) -> str:
        return verdicts.SKIPPED if any(unequal_steps(a, b) for a, b in self.pairs.values()) else ""

    def sentence(self, a: str, b: str) -> str:
        """Two groups: the effect in blocks first, then how many can go, then the area under the removal curve."""
        first, second = self.both((a, b))
        if not np.isfinite([*self.values(first, LEAD), *self.values(second, LEAD)]).all():
            return f"{escape(a)} and {escape(b)} cannot be compared: {verdicts.NO_GAIN}."
        n_blocks = self.blocks(first), self.blocks(second)
        return verdicts.differences(
            [(self.claims[a, b, name], n_blocks if SUMMARIES[name].unit == "blocks" else None) for name in SENTENCE]
        )

    @cached_property
    def contrasts(self) -> list[Contrast]:
        """Groups of different architectures: those at equal tokens first, and of these those that are further apart."""
        found = []
        for a, b in sorted(self.told, key=lambda pair: (self.matched(*pair) == "equal loss", -self._apart(pair))):
            groups = self.both((a, b))
            first, second = groups
            effective = [tuple(v * self.blocks(group) for v in self.values(group, LEAD)) for group in groups]
            known = [values if np.isfinite(values).all() else () for values in effective]
            found.append(
                Contrast(
                    (a, b),
                    (self.spec(first).architecture, self.spec(second).architecture),
                    (known[0], known[1]),
                    (self.blocks(first), self.blocks(second)),
                    self.gaps[a, b][LEAD][1],
                    self.claims[a, b, LEAD].of_architectures,
                    self.sentence(a, b),
                )
            )
        return [one for one in found if one.architectures[0] != one.architectures[1]]

    def _apart(self, pair: tuple[str, str]) -> float:
        """How far two groups are apart by LEAD; those that do not differ significantly come last."""
        gap, significant = self.gaps[pair][LEAD]
        return abs(gap.value) if significant else -1.0

    @property
    def limits(self) -> str:
        return f"{LIMITS} False discoveries are held to 5\u00a0% over all differences shown."

    def _relation(self, a: str, b: str) -> str:
        return verdicts.BY_DEPTH if of_depths(*self.pairs[a, b]) else self.matched(a, b)
