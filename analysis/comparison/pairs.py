"""Pairs of groups of models: by how much their summaries differ, and what may be claimed of that."""

from __future__ import annotations

from functools import cached_property
from itertools import combinations

from scipy.stats import false_discovery_control

from adapters.specs import ModelSpec
from analysis.comparison.claims import Claim, Side, adjusted
from analysis.comparison.redundancy import SUMMARIES
from analysis.comparison.tables import OfModels
from analysis.display.format import escape
from analysis.display.sentences import Effect
from analysis.stats.estimates import Estimate, mean
from analysis.zoo.groups import Group, beside, matching, one_training, other_depth, two_things, unequal_steps


class OfPairs(OfModels):
    """Differences and claims of each pair of groups."""

    @cached_property
    def gaps(self) -> dict[tuple[str, str], dict[str, tuple[Estimate, bool]]]:
        """Differences of each pair of groups by summary, and whether they are significant; false discoveries held to 5 %."""
        pairs = [
            (a, b, name)
            for a, b in self.pairs.values()
            if not unequal_steps(a, b)
            for name in SUMMARIES
            if {name} <= self.has(a) & self.has(b)
        ]
        found = [self.mean(a, name) - self.mean(b, name) for a, b, name in pairs]
        significant = false_discovery_control([gap.p for gap in found]) <= 0.05 if found else []
        gaps: dict[tuple[str, str], dict[str, tuple[Estimate, bool]]] = {}
        for (a, b, name), gap, yes in zip(pairs, found, significant, strict=True):
            gaps.setdefault((a.name, b.name), {})[name] = gap, bool(yes)
        return gaps

    @cached_property
    def claims(self) -> dict[tuple[str, str, str], Claim]:
        """What may be claimed of each pair of groups and summary; false discoveries over seeds held to 5 % as well."""
        keys = [(a, b, name) for (a, b), gaps in self.gaps.items() for name in gaps]
        found = []
        for a, b, name in keys:
            gap, significant = self.gaps[a, b][name]
            effect = Effect(gap.interval, significant, self.n_documents)
            first, second = (self.side(group, name) for group in self.both((a, b)))
            found.append(Claim(name, first, second, effect, self.matched(a, b)))
        return dict(zip(keys, adjusted(found), strict=True))

    @cached_property
    def main(self) -> list[Group]:
        """Groups that are spoken of: other depths only where there is nothing else."""
        told = {name for pair in self.told for name in pair}
        return [g for g in self.of.groups if g.name in told or not (g.facts and other_depth(g.first))]

    @cached_property
    def told(self) -> list[tuple[str, str]]:
        """Pairs that are spoken of: of other depths (`depths.conclusion`) only where there is nothing else."""
        deep = [pair for pair in self.gaps if any(g.facts and other_depth(g.first) for g in self.pairs[pair])]
        return [pair for pair in self.gaps if pair not in deep] or list(self.gaps)

    @cached_property
    def pairs(self) -> dict[tuple[str, str], tuple[Group, Group]]:
        """By name, with the seeds that can be compared. A group and its own earlier steps are none, nor are two that differ in their
        architecture and their depth."""
        pairs = [(a, b) for a, b in combinations(self.of.groups, 2) if not one_training(a, b) and not two_things(a, b)]
        return {(a.name, b.name): beside(a, b) for a, b in pairs}

    def both(self, pair: tuple[str, str]) -> tuple[Group, Group]:
        return self.pairs[pair]

    def has(self, group: Group) -> set[str]:
        """Summaries of all its members."""
        return set.intersection(*(set(self.estimates[member]) for member in group.members))

    def spec(self, group: Group) -> ModelSpec:
        return next(m.spec for m in self.of.models if m.name in group.members)

    def blocks(self, group: Group) -> int:
        return len(self.spec(group).blocks)

    def mean(self, group: Group, name: str) -> Estimate:
        return mean([self.estimates[member][name] for member in group.members])

    def values(self, group: Group, name: str) -> tuple[float, ...]:
        """A summary of each seed of a group."""
        return tuple(self.estimates[member][name].value for member in group.members)

    def side(self, group: Group, name: str) -> Side:
        return Side(escape(group.name), self.values(group, name))

    def matched(self, a: str, b: str) -> str:
        return matching(*self.pairs[a, b])
