"""Words about methods: a planted difference, none, and too little data; what the paper prints; means and retained shares."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.methods import findings
from analysis.methods.accuracy import mean, retained
from analysis.paper.table_1 import COLUMNS, TABLE, printed
from analysis.stats.intervals import accuracy
from tests.shared_data import shared

RNG = np.random.default_rng(0)
BASE = RNG.normal(300, 60, 40)  # sums of nll of 40 documents
TOKENS = np.full(40, 100)


def noise(scale: float = 5.0) -> np.ndarray:
    return RNG.normal(0, scale, 40)


def test_planted_order() -> None:
    losses = {"A": BASE + noise(), "B": BASE + 40 + noise(), "C": BASE + 80 + noise(), "D": BASE + 40 + noise()}
    assert findings.best(losses, TOKENS) == "A has the lowest loss, significantly lower than that of every other method"
    assert (
        findings.against("B", losses, TOKENS)
        == "B has a significantly lower loss than C, has a significantly higher loss than A, does not differ significantly from D"
    )


def test_noise() -> None:
    losses = {name: BASE + noise(20) for name in "ABC"}
    said = findings.best(losses, TOKENS)
    assert "has the lowest loss, but not significantly lower than " in said
    assert sum(f" {name}" in f" {said}" for name in "ABC") == 3
    assert findings.against("A", losses, TOKENS) == "A does not differ significantly from B and C"


def test_too_little_data() -> None:
    few = {"A": BASE[:11], "B": BASE[:11] + 100}
    assert findings.best(few, TOKENS[:11]) == "which method is best is not known: too few documents for an interval (11 of at least 12)"
    assert (
        findings.against("A", few, TOKENS[:11])
        == "whether A is better than the others is not known: too few documents for an interval (11 of at least 12)"
    )
    assert findings.best({"A": BASE}, TOKENS) == "only A was measured"
    assert findings.best({}, TOKENS) == "no method was measured"
    assert findings.against("A", {"B": BASE}, TOKENS) == "there is no other method to compare A with"
    assert findings.besides(["C", "D"]) == " (not measured: C and D)"
    assert findings.besides([]) == ""


def test_the_table_is_transcribed() -> None:
    """Against the file that it was read from, row by row."""
    lines = shared("../paper/table1.csv").read_text().splitlines()
    assert [name.replace("-", "").lower() for name in COLUMNS] == lines[0].lower().split(",")[3:16]
    for line in lines[1:]:
        model, method, removed, *numbers = line.split(",")
        row = next(row for row in printed(f"{model}-hf") if row.method == method)
        assert [row.removed, *row.scores, row.average, row.retained] == [float(removed), *map(float, numbers)]
    assert sum(map(len, TABLE.values())) == len(lines) - 1
    assert len(printed("Baichuan2-13B-Base")) == 5
    assert printed("smollm2") == ()


def test_rows_that_contradict_themselves_are_found() -> None:
    dense, *rows = printed("llama-2-7b")
    assert dense.contradictions(dense) == ["the average is not the mean of the scores"]
    marked = {row.method: row.contradictions(dense) for row in rows}
    assert marked["LaCo"] == []
    assert marked["ShortGPT"] == ["the average is not the mean of the scores"]
    exact = rows[0]._replace(average=rows[0].mean, retained=100 * rows[0].mean / dense.average)
    assert exact.contradictions(dense) == []
    assert (dense.score("mmlu"), dense.score("race_middle"), dense.score("coqa"), dense.score("xsum_loss")) == (45.39, 34.19, None, None)
    assert dense.over(["mmlu", "piqa", "arc_easy"]) == pytest.approx((45.39 + 77.91) / 2)
    assert exact._replace(retained=exact.retained + 1).contradictions(dense) == ["the retained share is not that of the averages"]


def test_mean_and_retained_share() -> None:
    dense = [np.array([1.0, 1, 0, 1] * 10), np.array([1.0, 0] * 30)]
    pruned = [np.array([1.0, 0, 0, 1] * 10), np.array([0.0, 0, 0, 1] * 15)]
    assert mean(dense).value == pytest.approx((0.75 + 0.5) / 2), "of tasks, not of questions"
    found = retained(pruned, dense)
    assert found.value == pytest.approx((0.5 + 0.25) / (0.75 + 0.5))
    assert found.low < found.value < found.high
    assert retained(dense, dense) == (1, None, None), "no answer differs: how seldom one does is not known"
    assert mean(dense[:1]) == accuracy(dense[0])
    assert mean([dense[0][:11], dense[1]]).low is None
    wide, narrow = (retained([p.repeat(n) for p in pruned], [d.repeat(n) for d in dense]) for n in (1, 9))
    assert narrow.high - narrow.low < 0.5 * (wide.high - wide.low)


def test_intervals_of_a_mean_cover() -> None:
    """95 % of them hold the truth, within the error of 200 draws."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        found = mean([(rng.random(60) < p).astype(float) for p in (0.3, 0.6)])
        held += found.low <= 0.45 <= found.high
    assert held >= 180
