"""Budgets: how much text a study may read, fitted to the machine by the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

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


class Takes(NamedTuple):
    """What a study takes of a model, stated before it runs.

    What several studies score is called the same in each, and scored once for all of them.
    """

    passes: Mapping[str, float]  # FLOPs for each token of text, by what is scored
    beside: float  # seconds beside them, of resampling and drawing
    within: Mapping[str, float] = MappingProxyType({})  # what is skipped when it takes more than this share of a sweep's seconds


BUDGETS = {"quick": Budget(128, 24, 180, report=400), "full": Budget(512, 64, None)}


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
