"""Costs known before a sweep runs."""

from dataclasses import replace

from analysis.engine.ablations import single_ablations
from analysis.engine.cost import cost
from analysis.engine.plan import plan
from analysis.runs.budgets import Budget, fit
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI
from tests.reference.models import pair


def test_cost_is_the_plans() -> None:
    model, _ = pair()
    work = plan(model.spec, single_ablations(model.spec, ["blocks"]))
    found = cost(model, work, documents=5, window=16)
    n = len(model.spec.blocks)
    assert found.mixer_rows == found.ffn_rows == n * (n + 1) // 2
    assert found.tokens == 80
    assert found.seconds > 0


def test_a_budget_is_filled_within_its_bounds(monkeypatch) -> None:
    model, _ = pair()
    work = plan(model.spec, single_ablations(model.spec, ["blocks"]))
    per_document = work.flops_per_token * 16
    monkeypatch.setattr("analysis.engine.cost.speed", lambda model, window: per_document)  # one second a document
    size = Budget(window=16, documents=50, seconds=30)
    assert fit(model, work, size) == 30
    assert fit(model, work, replace(size, seconds=8)) == MIN_DOCUMENTS_FOR_CI, "a little more time, for intervals"
    assert fit(model, work, replace(size, seconds=2)) == 2, "hours are not a quick budget"
    assert fit(model, work, replace(size, seconds=0.1)) == 1
    assert fit(model, work, replace(size, seconds=1000)) == 50
    assert fit(model, work, replace(size, seconds=None)) == 50


def test_a_window_fits_the_shortest_context() -> None:
    long, _ = pair(max_position_embeddings=512)
    short, _ = pair(max_position_embeddings=100)
    size = Budget(window=256, documents=3, seconds=None)
    assert size.within(long) == size
    assert size.within(long, short).window == 99, "and a BOS token in front"
