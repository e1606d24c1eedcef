"""Do the sentences of a comparison hold under other choices: another measure, window, part of the text, or order of removal?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd
from scipy.stats import false_discovery_control

from adapters.base import BlockModel
from analysis.comparison.claims import CLAIMED, Claim, Holds, Side, adjusted
from analysis.comparison.measured import Measured
from analysis.comparison.redundancy import SUMMARIES, area, effective_share, estimate, removable
from analysis.comparison.results import SENTENCE, Comparison
from analysis.comparison.study import Load, common, lean
from analysis.data.batches import Text
from analysis.data.sources import PROSE
from analysis.display.format import count, listed
from analysis.display.sentences import Effect
from analysis.engine.ablations import single_ablations
from analysis.engine.cost import speed
from analysis.removal.paths import RemovalPath
from analysis.removal.search import find_paths
from analysis.runs.settings import RunConfig
from analysis.stats.estimates import Estimate, mean
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, RATE

NOT_KNOWN = "not known"  # for want of documents, or of a gain
GREEDY = "greedy removal"
WINDOWS, DOCUMENTS = (64, 128, 255), 24
WIDER = 0.2  # of the gain, twice what removals may cost
Of = Callable[[Measured], Estimate | None]  # what stands for a summary; None: the model has no such parts


def _spread(kind: str) -> Of:
    """Of losses of mixers or ffns instead of blocks."""
    return lambda m: estimate(effective_share, m.losses(m.singles[kind], "share")) if kind in m.singles else None


# Another measure for a summary, from what was measured anyway.
MEASURES: dict[str, tuple[str, Of]] = {
    "Gini coefficient": ("effective", lambda m: m.summaries["gini"] * -1),
    "losses of mixers": ("effective", _spread("mixers")),
    "losses of ffns": ("effective", _spread("ffns")),
    "divergence instead of loss": ("effective", lambda m: estimate(effective_share, m.divergence["blocks"])),
    "Block Influence instead of loss": ("effective", lambda m: estimate(effective_share, m.bi)),
    "a fifth of the gain": ("removable", lambda m: estimate(lambda path: removable(path, WIDER), m.shares["path"])),
    "bits per byte": ("area", lambda m: estimate(lambda path: area(path / 8), m.losses(m.path, "bits"))),  # no model loses 8 bits of a byte
}


@dataclass(frozen=True)
class Trial:
    """A comparison under one other choice: claims by pair and summary."""

    name: str
    claims: Mapping[tuple[str, str, str], Claim]

    def says(self, key: tuple[str, str, str], first: Claim) -> str:
        """What becomes of a claim; empty where this choice says nothing of it."""
        if key not in self.claims:
            return ""
        found = self.claims[key]
        if found.holds in (Holds.NO_GAIN, Holds.OPEN):
            return NOT_KNOWN
        same = (found.documents.size.value > 0) == (first.documents.size.value > 0)
        if found.holds in CLAIMED:
            return "holds" if same else "reversed"
        return "the same way, not significant" if same else "the other way, not significant"


@dataclass(frozen=True)
class Robustness:
    """What becomes of the claims of a comparison under other choices."""

    of: Comparison
    trials: Sequence[Trial]
    skipped: Sequence[str] = ()  # choices with too few documents for an interval

    @cached_property
    def said(self) -> dict[tuple[str, str, str], dict[str, list[str]]]:
        """Of each claim that holds: the choices by what they say of it."""
        found: dict[tuple[str, str, str], dict[str, list[str]]] = {}
        for key, claim in self.of.claims.items():
            if key[2] not in SENTENCE or key[:2] not in self.of.told or claim.holds not in CLAIMED:
                continue
            of = found.setdefault(key, {})
            for trial in self.trials:
                if said := trial.says(key, claim):
                    of.setdefault(said, []).append(trial.name)
        return found

    @cached_property
    def table(self) -> pd.DataFrame:
        """One line a sentence that the comparison supports: under how many choices it holds, and under which it does not."""
        rows = []
        for (a, b, name), said in self.said.items():
            claim, every = self.of.claims[a, b, name], sum(map(len, said.values()))
            others = {verdict: names for verdict, names in said.items() if verdict != "holds"}
            high, low = (a, b) if claim.documents.size.value > 0 else (b, a)
            rows.append(
                {
                    "sentence": f"{SUMMARIES[name].higher.format(high)}, compared with {low}",
                    "claimed of": "architectures" if claim.holds is Holds.ARCHITECTURES else "these models",
                    "holds": f"{len(said.get('holds', ()))} of {every}",
                    "does not": "; ".join(f"{verdict}: {listed(names)}" for verdict, names in others.items()) or "never",
                }
            )
        return pd.DataFrame(rows, columns=["sentence", "claimed of", "holds", "does not"])

    @property
    def conclusion(self) -> str:
        """How many sentences hold everywhere, and how many are reversed somewhere."""
        if not self.said or not self.trials:
            return "There is no sentence whose robustness could be tried."
        everywhere = sum("holds" in said and set(said) <= {"holds", NOT_KNOWN} for said in self.said.values())
        reversed_ = sum("reversed" in said for said in self.said.values())
        return (
            f"{count(len(self.said), 'sentence')} tried under {count(len(self.trials), 'other choice')}: {everywhere} of them hold under "
            f"each that says something of them, and {reversed_} of them are significantly reversed under at least one."
            f" Windows, single texts and greedy removal are measured on {DOCUMENTS} documents at most."
        ) + (f" Left out, for want of {MIN_DOCUMENTS_FOR_CI} documents: {listed(self.skipped)}." if self.skipped else "")


def robustness(of: Comparison, load: Load, config: RunConfig, windows: Sequence[int] = WINDOWS) -> Robustness:
    """Measures the models that a comparison speaks of again under each choice: blocks and their removal path, on DOCUMENTS documents."""
    config = replace(config, documents=min(config.documents or DOCUMENTS, DOCUMENTS))
    trials = [Trial(name, claims(of, summaries={summary: measure})) for name, (summary, measure) in MEASURES.items()]
    settings = {
        f"window of {w} tokens" if w != of.of.text.window else count(config.documents or 0, "document"): replace(
            config, budget=replace(config.budget, window=w)
        )
        for w in windows
        if w != of.of.text.window or config.documents != of.of.text.documents  # that would be the comparison itself
    }
    if config.corpus == "texts":
        parts = dict.fromkeys(file.partition("/")[0] for file, _ in PROSE)
        settings |= {f"{part} alone": replace(config, corpus=f"texts:{part}") for part in parts}
    again = {name: _again(of, load, setting) for name, setting in settings.items()} | {GREEDY: _again(of, load, config, greedily)}
    for name, models in again.items():
        if models:
            trials.append(Trial(name, claims(of, models, only=("removable", "area") if name == GREEDY else SENTENCE)))
    return Robustness(of, [trial for trial in trials if trial.claims], [name for name, models in again.items() if not models])


Order = Callable[[BlockModel, Text, RunConfig], RemovalPath]


def greedily(model: BlockModel, calibration: Text, config: RunConfig) -> RemovalPath:
    """Blocks, of which after each removal all that are left are tried again."""
    path = find_paths(model, calibration, config, speed(model, config.budget.window), ["greedy"]).paths["greedy"][1:]
    blocks = single_ablations(model.spec, ["blocks"])
    last = path[-1] if path else blocks[0]
    return (*path, *[last | block for block in blocks if last | block != last])


def _again(of: Comparison, load: Load, config: RunConfig, order: Order | None = None) -> dict[str, Measured]:
    """The models that are spoken of; none where there are too few documents for an interval."""
    told = {member for pair in of.told for group in of.both(pair) for member in group.members}
    names = [m.name for m in of.of.models if m.name in told]
    text, calibration = common(names, load, config)
    if (text.documents or 0) < MIN_DOCUMENTS_FOR_CI:
        return {}
    found = {}
    for name in names:
        model = load(name)
        found[name] = lean(name, model, text, calibration, config, order(model, calibration, config) if order else ())
    return found


def claims(
    of: Comparison,
    models: Mapping[str, Measured] | None = None,
    summaries: Mapping[str, Of] | None = None,
    only: Sequence[str] = SENTENCE,
) -> dict[tuple[str, str, str], Claim]:
    """The claims of a comparison again, from other measurements or by other measures; false discoveries held to 5 % among them."""
    measured = {m.name: m for m in of.of.models} if models is None else models
    measures: Mapping[str, Of] = summaries or {name: lambda m, name=name: m.summaries[name] for name in only}  # type: ignore[misc]
    found, gaps = [], []
    for a, b, name in (key for key in of.claims if key[2] in measures and key[:2] in of.told):
        every = [[measures[name](measured[member]) for member in group.members] for group in of.both((a, b))]
        first, second = known = [[e for e in side if e is not None] for side in every]
        if list(map(len, known)) != list(map(len, every)):
            continue
        gaps.append(mean(first) - mean(second))
        found.append(((a, b, name), Side(a, tuple(e.value for e in first)), Side(b, tuple(e.value for e in second))))
    significant = false_discovery_control([gap.p for gap in gaps]) <= RATE if gaps else []
    tried = [
        Claim(key[2], a, b, Effect(gap.interval, bool(yes), gap.documents), of.claims[key].matched)
        for (key, a, b), gap, yes in zip(found, gaps, significant, strict=True)
    ]
    return dict(zip((key for key, _, _ in found), adjusted(tried), strict=True))
