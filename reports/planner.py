"""How a report's time is spent: by question, every one on a model of each architecture before any on a second model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import NamedTuple

from adapters.base import BlockModel
from adapters.errors import StrataError, unknown
from analysis.comparison import study as comparison
from analysis.engine.cost import speed
from analysis.runs.budgets import Budget, Takes
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI
from analysis.width.study import SHORT
from reports.sections import COMPARISON, SECTIONS, Choice

KERNEL = 1.5  # seconds to hand a notebook to a kernel that runs, and to read its model
COMPARISON_BESIDE = 1.0  # seconds for each model that is compared, of reading and resampling
NEEDED = ("depth", "width")  # what every model should have, like every question once: also on a machine that is ...
BUSY = 2.5  # ... so much slower than planned
COMPARED = 0.25  # at most this share of the time, for more than the fewest documents
Load = Callable[[str], BlockModel]


class Size(NamedTuple):
    """Of the text that a section reads."""

    documents: int
    window: int


class Asked(NamedTuple):
    """A section that was named: of one model or all of them, on so much text where that was said."""

    model: str
    question: str
    size: Size | None

    @classmethod
    def of(cls, words: str) -> Asked:
        """From "depth", "smollm2:depth" or "smollm2:width=12x32". Raises StrataError on anything else."""
        rest, _, size = words.partition("=") if re.search(r"=\d+x\d+$", words) else (words, "", "")
        model, _, question = rest.rpartition(":")
        known = [*(section.question for section in SECTIONS), COMPARISON]
        if question not in known:
            raise unknown("section", question, known)
        found = re.fullmatch(r"(\d+)x(\d+)", size)
        return cls(model, question, Size(int(found[1]), int(found[2])) if found else None)


class Candidate(NamedTuple):
    """A model of the report, as the planner sees it."""

    name: str
    architecture: str
    rate: float  # FLOPs a second
    longest: int  # tokens of a window
    takes: dict[str, Takes | str]  # by question; why there is none

    @classmethod
    def of(cls, name: str, model: BlockModel, budget: Budget) -> Candidate:
        longest = budget.within(model).window
        found: dict[str, Takes | str] = {COMPARISON: comparison.takes(model.spec)}
        for section in SECTIONS:
            try:
                found[section.question] = section.takes(model.spec)
            except StrataError as error:
                found[section.question] = str(error)
        return cls(name, model.spec.architecture, speed(model, longest), longest, found)


@dataclass
class Ledger:
    """What has been spent: what one section scores, others of the same model and window do not score again."""

    left: float
    sweep: float  # seconds that one sweep may take
    scored: dict[tuple[str, int, str], int] = field(default_factory=dict)  # documents, by model, window and what is scored

    @classmethod
    def of(cls, budget: Budget) -> Ledger:
        return cls(budget.report or inf, budget.seconds or inf)

    def passes(self, model: Candidate, takes: Takes, size: Size, share: float = 1.0) -> dict[str, float]:
        """Seconds of what is scored beside what has been, without what is skipped because it takes too long."""
        each = {what: flops * size.window / model.rate for what, flops in takes.passes.items()}
        most = {what: share * takes.within.get(what, inf) * self.sweep for what in each}
        kept = {what: seconds for what, seconds in each.items() if seconds * size.documents <= most[what]}
        return {what: s * max(0, size.documents - self.scored.get((model.name, size.window, what), 0)) for what, s in kept.items()}

    def cost(self, model: Candidate, takes: Takes, size: Size) -> float:
        """Seconds."""
        return KERNEL + takes.beside + sum(self.passes(model, takes, size).values())

    def spend(self, model: Candidate, takes: Takes, size: Size, share: float = 1.0) -> float:
        """Seconds of the passes, which are taken off."""
        passes = self.passes(model, takes, size, share)
        self.left -= sum(passes.values())
        for what in passes:
            place = (model.name, size.window, what)
            self.scored[place] = max(self.scored.get(place, 0), size.documents)
        return sum(passes.values())

    def hold(self, model: Candidate, takes: Takes, size: Size) -> float:
        """Seconds of a section, which are taken off."""
        self.left -= KERNEL + takes.beside
        return KERNEL + takes.beside + self.spend(model, takes, size)


def choose(
    candidates: Sequence[Candidate], budget: Budget, ledger: Ledger, asked: Sequence[Asked] = (), given: Size | None = None
) -> list[Choice]:
    """Every section of every model, held or not, by question and then by model in the order of `candidates`.

    With `asked` those sections alone, all held. `given` is how much text every section reads where that was said. Otherwise a section
    first gets the fewest documents that have intervals, on shorter windows if need be; what is left buys more documents, model by model.
    A busy hour costs a report its length, and not its contents.
    """
    if asked:
        return _named(candidates, budget, ledger, asked, given)
    held: dict[tuple[str, str], tuple[Size, float]] = {}
    once = len(SECTIONS) * len({model.architecture for model in candidates})
    for i, (model, question) in enumerate(rounds(candidates)):
        takes = model.takes[question]
        if isinstance(takes, str):
            continue
        sizes = [given] if given else _sizes(model, budget)
        allowed = ledger.left + (BUSY - 1) * (budget.report or 0)
        most = allowed if question == SECTIONS[0].question else ledger.left
        size = next((size for size in sizes if ledger.cost(model, takes, size) <= most), None)
        if size is None and (i == 0 or ((i < once or question in NEEDED) and ledger.cost(model, takes, sizes[-1]) <= allowed)):
            size = sizes[-1]
        if size is not None:
            held[model.name, question] = size, ledger.hold(model, takes, size)
    if not given:
        _more(candidates, budget, ledger, held)
    found = []
    for section in SECTIONS:
        for model in candidates:
            takes = model.takes[section.question]
            known = held.get((model.name, section.question))
            size = known[0] if known else given or Size(MIN_DOCUMENTS_FOR_CI, min(budget.window, model.longest))
            seconds = known[1] if known else 0.0 if isinstance(takes, str) else ledger.cost(model, takes, size)
            found.append(Choice(model.name, section.question, *size, seconds, known is not None, takes if isinstance(takes, str) else ""))
    return found


def rounds(candidates: Sequence[Candidate]) -> list[tuple[Candidate, str]]:
    """Models and questions in the order in which time is spent: every question on the cheapest model of each architecture, then on the
    next ones."""
    ranked: dict[str, list[Candidate]] = {}
    for model in sorted(candidates, key=_weight):
        ranked.setdefault(model.architecture, []).append(model)
    most = max(map(len, ranked.values()), default=0)
    return [(models[r], section.question) for r in range(most) for section in SECTIONS for models in ranked.values() if r < len(models)]


def _weight(model: Candidate) -> float:
    """Seconds for each token of everything that there is for it."""
    return sum(sum(takes.passes.values()) for takes in model.takes.values() if isinstance(takes, Takes)) / model.rate


def _sizes(model: Candidate, budget: Budget) -> list[Size]:
    """Of text, the one that is tried first in front: all where time does not count."""
    window = min(budget.window, model.longest)
    if budget.report is None:
        return [Size(budget.documents, window)]
    return [Size(MIN_DOCUMENTS_FOR_CI, window), *([Size(MIN_DOCUMENTS_FOR_CI, SHORT)] if window > SHORT else [])]


def _more(candidates: Sequence[Candidate], budget: Budget, ledger: Ledger, held: dict[tuple[str, str], tuple[Size, float]]) -> None:
    """More documents for all sections of a model on its longest windows, as long as they fit; cheap models first."""
    for model in sorted(candidates, key=_weight):
        full = Size(budget.documents, min(budget.window, model.longest))
        mine = {q: seconds for (name, q), (size, seconds) in held.items() if name == model.name and size.window == full.window}
        trial = replace(ledger, scored=dict(ledger.scored))
        more = {q: trial.spend(model, takes, full) for q in mine if isinstance(takes := model.takes[q], Takes)}
        if trial.left >= 0:
            ledger.left, ledger.scored = trial.left, trial.scored
            held |= {(model.name, q): (full, seconds + more[q]) for q, seconds in mine.items()}


def _named(candidates: Sequence[Candidate], budget: Budget, ledger: Ledger, asked: Sequence[Asked], given: Size | None) -> list[Choice]:
    """The sections that were asked for. Without a size as much text as a sweep's time holds, or the fewest documents."""
    found = []
    for section in SECTIONS:
        for model in candidates:
            mine = [one for one in asked if one.question == section.question and one.model in ("", model.name)]
            if not mine:
                continue
            takes = model.takes[section.question]
            if isinstance(takes, str):
                found.append(Choice(model.name, section.question, None, None, 0.0, False, takes))
                continue
            full = Size(budget.documents, min(budget.window, model.longest))
            sizes = [full, *_sizes(model, budget)]
            most = budget.seconds or inf
            size = mine[-1].size or given or next((s for s in sizes if ledger.cost(model, takes, s) <= most), sizes[-1])
            found.append(Choice(model.name, section.question, *size, ledger.hold(model, takes, size), True))
    return found


def compared(models: Sequence[Candidate], budget: Budget, ledger: Ledger, given: Size | None = None) -> Choice | None:
    """The comparison of the models, which is spent first: with more than the fewest documents where that takes COMPARED at most."""
    if not models:
        return None
    window, share = min(budget.window, *(model.longest for model in models)), 1 / len(models)
    full, few = Size(budget.documents, window), Size(MIN_DOCUMENTS_FOR_CI, window)

    def cost(size: Size, spent: Ledger) -> float:
        passes = [spent.spend(m, takes, size, share) for m in models if isinstance(takes := m.takes[COMPARISON], Takes)]
        return KERNEL + COMPARISON_BESIDE * len(models) + sum(passes)

    enough = budget.report is None or cost(full, replace(ledger, scored={})) <= COMPARED * budget.report
    size = given or (full if enough else few)
    seconds = cost(size, ledger)
    ledger.left -= KERNEL + COMPARISON_BESIDE * len(models)
    return Choice("", COMPARISON, *size, seconds, True)


def words(choices: Iterable[Choice], models: Sequence[str]) -> list[str]:
    """The held sections as `--only` names them, sizes included: "depth=12x128" where every model has it so, else model by model."""
    by: dict[str, dict[str, str]] = {}
    for choice in choices:
        if choice.held:
            by.setdefault(choice.question, {})[choice.model] = f"{choice.question}={choice.size}" if choice.size else choice.question
    said = []
    for sections in by.values():
        alike = len(sections) == max(1, len(models)) and len(set(sections.values())) == 1
        said += [next(iter(sections.values()))] if alike or "" in sections else [f"{m}:{section}" for m, section in sections.items()]
    return said
