"""The setting of a study: what it may take, which text it reads, where its runs are kept, and who is told how far it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapters.base import BlockModel
from analysis.data.batches import Text
from analysis.data.hashes import content_hash
from analysis.display.format import file_name
from analysis.engine.plan import Plan
from analysis.runs.budgets import Budget, fit

ProgressCallback = Callable[[str, float], None]  # told what is being done, and which share of it is


def no_progress(what: str, done: float) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class RunConfig:
    """What every study is given beside its model."""

    budget: Budget
    out: Path  # folder of the runs, which a second study goes on from
    corpus: str = "texts"
    documents: int | None = None  # None: as many as before, or as the budget holds; a corpus may hold fewer
    seed: int = 0
    progress: ProgressCallback = no_progress

    def within(self, model: BlockModel) -> RunConfig:
        """The same with a window that the context of the model holds."""
        return replace(self, budget=self.budget.within(model))

    def limited(self, share: float) -> RunConfig:
        """The same with a share of the time."""
        seconds = self.budget.seconds
        return self if seconds is None else replace(self, budget=replace(self.budget, seconds=share * seconds))

    def text(self, documents: int = 1) -> Text:
        """Held-out text in windows of the budget."""
        return Text(corpus=self.corpus, window=self.budget.window, documents=documents, seed=self.seed)

    def size(self, model: BlockModel, work: Plan, planned: int = 0) -> int:
        """Documents: as many as are asked for, or as were before (`planned`), or as the budget holds."""
        return self.documents or planned or fit(model, work, self.budget)


def run_folder(out: Path, identity: Mapping[str, Any]) -> Path:
    """The folder of the run of this identity: one for all who ask, and readable."""
    return out / f"{file_name(identity['model']['name'])}-{content_hash(identity)[:8]}"


def progress_fraction(progress: ProgressCallback, what: str, steps: int) -> Callable[[int], None]:
    """A count of steps, as studies tell it, as a share of `steps`."""
    done = 0

    def advance(n: int) -> None:
        nonlocal done
        done += n
        progress(what, done / steps)

    return advance
