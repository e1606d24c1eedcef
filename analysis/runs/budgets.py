"""Budgets: how much text a study may read, fitted to the machine by the plan."""

from __future__ import annotations

from dataclasses import dataclass, replace

from adapters.base import BlockModel
from adapters.errors import unknown
from analysis.engine.cost import cost
from analysis.engine.plan import Plan
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI


@dataclass(frozen=True, slots=True)
class Budget:
    window: int  # tokens
    documents: int  # at most
    seconds: float | None  # that one sweep may take; None: as long as it takes
    report: float | None = None  # seconds for all sections of a report and its comparison; None: it holds everything

    def within(self, *models: BlockModel) -> Budget:
        """The same with a window that the context of every model holds, with a token to spare for BOS."""
        return replace(self, window=min(self.window, *(model.spec.max_len - 1 for model in models)))


BUDGETS = {"quick": Budget(128, 24, 180, report=480), "full": Budget(512, 64, None)}


def budget(name: str) -> Budget:
    """Raises StrataError on an unknown name."""
    if name not in BUDGETS:
        raise unknown("budget", name, BUDGETS)
    return BUDGETS[name]


def fit(model: BlockModel, sweep: Plan, budget: Budget) -> int:
    """How many documents of the budget's window its seconds hold; enough for an interval if four times as long will do.

    A busy minute must not cost a report its intervals; hours that nobody asked for must not be spent either.
    """
    if budget.seconds is None:
        return budget.documents
    each = cost(model, sweep, 1, budget.window).seconds
    least = MIN_DOCUMENTS_FOR_CI if MIN_DOCUMENTS_FOR_CI * each <= 4 * budget.seconds else 1
    return max(least, min(budget.documents, int(budget.seconds / each)))
