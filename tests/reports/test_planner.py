"""How the time of a report is spent: by question, each architecture once before any model twice, and nothing paid for twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.errors import StrataError
from analysis.runs.budgets import BUDGETS, Takes
from reports import planner
from reports.planner import Asked, Candidate, Ledger, Size, choose, compared, rounds, words
from reports.sections import COMPARISON, SECTIONS, Choice

QUESTIONS = [section.question for section in SECTIONS]
QUICK, FULL = replace(BUDGETS["quick"], report=400.0), BUDGETS["full"]


def candidate(name: str, architecture: str, seconds: float, **takes: Takes | str) -> Candidate:
    """A model of which every question takes `seconds` for 12 documents of 128 tokens, each for something of its own."""
    each = {q: Takes({q: seconds / (12 * 128)}, 0.0) for q in [*QUESTIONS, COMPARISON]}
    return Candidate(name, architecture, 1.0, 128, {**each, **takes})


SMALL, RECURRENT = candidate("small", "Transformer", 1.0), candidate("recurrent", "RWKV", 2.0)
LARGE = candidate("large", "Transformer", 100.0)


def held(models: list[Candidate], seconds: float) -> dict[str, set[str]]:
    budget = replace(QUICK, report=seconds)
    found = choose(models, budget, Ledger.of(budget))
    return {model.name: {c.question for c in found if c.held and c.model == model.name} for model in models}


def test_every_question_on_each_architecture_comes_before_a_second_model() -> None:
    order = [(model.name, question) for model, question in rounds([LARGE, RECURRENT, SMALL])]
    first = [(name, question) for question in QUESTIONS for name in ("small", "recurrent")]
    assert sorted(order[: len(first)]) == sorted(first)
    assert [question for name, question in order[: len(first)] if name == "small"] == QUESTIONS
    assert order[len(first) :] == [("large", question) for question in QUESTIONS]


def test_a_large_model_gets_what_is_left() -> None:
    small = len(QUESTIONS) * (1 + 2 + 2 * planner.KERNEL)
    huge = candidate("large", "Transformer", 10_000.0)
    assert held([huge, SMALL, RECURRENT], small + 1) == {"large": set(), "small": set(QUESTIONS), "recurrent": set(QUESTIONS)}
    assert held([huge], 1.0)["large"] == {"depth"}, "the first in any case"
    assert held([LARGE, SMALL, RECURRENT], small + 110)["large"] >= {"depth", "width"}


def test_a_busy_machine_costs_time_and_not_contents() -> None:
    """All that every report should hold is there on a machine that is BUSY times as slow, and nothing more."""
    models = [candidate("large", "Transformer", 80.0, redundancy="none"), SMALL, RECURRENT]
    small = len(QUESTIONS) * (1 + 2 + 2 * planner.KERNEL)
    seconds = small + 2 * 83 + 1
    wanted = {"large": {"depth", "width"}, "small": set(QUESTIONS), "recurrent": set(QUESTIONS)}
    assert {name: got & wanted[name] for name, got in held(models, seconds).items()} == wanted
    slow = [m._replace(rate=m.rate / planner.BUSY) for m in models]
    assert held(slow, seconds) == wanted


def test_what_does_not_fit_is_read_on_shorter_windows() -> None:
    budget = replace(QUICK, report=(100 + 25 + 2 * planner.KERNEL + 1) / planner.BUSY)
    found = {c.question: c for c in choose([LARGE], budget, Ledger.of(budget))}
    assert [q for q, c in found.items() if c.held] == ["depth", "redundancy"]
    assert (found["depth"].size, found["redundancy"].size) == ("12x128", "12x32")


def test_what_is_left_buys_documents_for_all_of_a_model() -> None:
    small = [c for c in choose([SMALL], QUICK, Ledger.of(QUICK)) if c.held]
    assert {c.size for c in small} == {"24x128"}
    tight = replace(QUICK, report=len(QUESTIONS) * (1 + planner.KERNEL) + 1)
    assert {c.size for c in choose([SMALL], tight, Ledger.of(tight))} == {"12x128"}


def test_what_several_sections_score_is_paid_once() -> None:
    shared = Takes({"sweep": 50 / (12 * 128)}, 1.0)
    model = candidate("m", "Transformer", 1000.0, depth=shared, width=shared)
    ledger = Ledger(1000.0, 180.0)
    assert ledger.hold(model, shared, Size(12, 128)) == pytest.approx(51 + planner.KERNEL)
    assert ledger.hold(model, shared, Size(12, 128)) == pytest.approx(1 + planner.KERNEL)
    assert ledger.hold(model, shared, Size(24, 128)) == pytest.approx(51 + planner.KERNEL), "twelve more documents"
    assert ledger.hold(model, shared, Size(12, 32)) == pytest.approx(12.5 + 1 + planner.KERNEL), "other windows are another text"
    assert ledger.left == pytest.approx(1000 - 51 - 1 - 51 - 13.5 - 4 * planner.KERNEL)


def test_what_a_study_skips_is_not_counted() -> None:
    takes = Takes({"a": 10 / (12 * 128), "b": 90 / (12 * 128)}, 0.0, {"b": 0.25})
    assert Ledger(1000.0, 400.0).cost(SMALL, takes, Size(12, 128)) == pytest.approx(100 + planner.KERNEL)
    assert Ledger(1000.0, 300.0).cost(SMALL, takes, Size(12, 128)) == pytest.approx(10 + planner.KERNEL)


def test_a_section_that_cannot_be_keeps_its_reason() -> None:
    model = candidate("m", "RWKV", 1.0, width="m has no heads")
    (width,) = [c for c in choose([model], QUICK, Ledger.of(QUICK)) if c.question == "width"]
    assert (width.held, width.impossible) == (False, "m has no heads")
    (named,) = choose([model], QUICK, Ledger.of(QUICK), [Asked.of("width")])
    assert (named.held, named.impossible) == (False, "m has no heads")


def test_the_full_budget_holds_everything() -> None:
    found = choose([LARGE, SMALL], FULL, Ledger.of(FULL))
    assert all(c.held for c in found)
    assert {c.size for c in found} == {"64x128"}


def test_text_that_was_given_is_read_by_everything() -> None:
    found = choose([SMALL, RECURRENT], QUICK, Ledger.of(QUICK), given=Size(5, 64))
    assert {c.size for c in found} == {"5x64"}


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("depth", Asked("", "depth", None)),
        ("width=12x32", Asked("", "width", Size(12, 32))),
        ("a:b/c:width=12x32", Asked("a:b/c", "width", Size(12, 32))),
        ("x=1:pruning", Asked("x=1", "pruning", None)),
        ("comparison=24x128", Asked("", "comparison", Size(24, 128))),
    ],
)
def test_sections_are_named_with_their_size(said: str, means: Asked) -> None:
    assert Asked.of(said) == means


@pytest.mark.parametrize("said", ["wdth", "width=12", "width=0", "m:", "width=12x"])
def test_what_is_no_section(said: str) -> None:
    with pytest.raises(StrataError, match="unknown section"):
        Asked.of(said)


def test_the_words_of_a_choice_choose_the_same() -> None:
    """Whatever the machine's speed: the sizes stand in them."""
    models = [LARGE, SMALL, RECURRENT]
    budget = replace(QUICK, report=300.0)
    ledger = Ledger.of(budget)
    last = compared([SMALL, RECURRENT], budget, ledger)
    first = choose(models, budget, ledger)
    assert last is not None
    said = words([*first, last], [m.name for m in models])
    assert f"comparison={last.size}" in said
    slow = [m._replace(rate=0.01) for m in models]
    again = choose(slow, budget, Ledger.of(budget), [Asked.of(one) for one in said])
    assert {(c.model, c.question, c.size) for c in again} == {(c.model, c.question, c.size) for c in first if c.held}
    alike = [Choice(name, "depth", 12, 128, 1.0, True) for name in "ab"]
    assert words(alike, ["a", "b"]) == ["depth=12x128"]
    assert words(alike[:1], ["a", "b"]) == ["a:depth=12x128"]


def test_a_comparison_is_paid_for_first_and_shares_its_sweeps() -> None:
    sweep = Takes({"sweep": 10 / (12 * 128)}, 0.0)
    models = [candidate(name, "Transformer", 1.0, depth=sweep, comparison=sweep) for name in "ab"]
    ledger = Ledger.of(QUICK)
    found = compared(models, QUICK, ledger)
    assert found is not None
    assert found.size == "24x128"
    assert ledger.left == pytest.approx(QUICK.report - found.seconds)  # type: ignore[operator]
    assert ledger.cost(models[0], sweep, Size(24, 128)) == planner.KERNEL
    slow = [m._replace(rate=0.1) for m in models]
    few = compared(slow, QUICK, Ledger.of(QUICK))
    assert few is not None
    assert few.size == "12x128"
    assert compared([], QUICK, ledger) is None
