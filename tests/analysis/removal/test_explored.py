"""What is handed over for readers who pick parts: each set once a text, as it was tested, and each order once."""

from __future__ import annotations

from dataclasses import replace

from analysis.removal.explored import Explored, Measured, Order, Reading, merged
from analysis.stats.intervals import Interval

ONE = Measured("blocks 0", 0.5, Interval(0.1, 0.05, 0.15))
BOTH = Measured("blocks 0, 1", 1.0, Interval(0.4, None, None))
READING = Reading("texts: 12 documents", 12, (ONE, BOTH), (Order("greedy", ("blocks 0", "blocks 0, 1")),))
EXPLORED = Explored("a model", {"blocks 0": 0.5, "blocks 1": 0.5}, (READING,))


def test_readings_of_one_text_become_one() -> None:
    tested = replace(ONE, significant=True)
    singles = Reading(READING.text, 12, (tested,), (Order("greedy", ("blocks 0",)), Order("random", ("blocks 0",))))
    other = Reading("texts: 24 documents", 24, (ONE,))
    (found,) = merged([EXPLORED, replace(EXPLORED, readings=(singles, other)), EXPLORED])
    assert found.readings == (
        Reading(READING.text, 12, (tested, BOTH), (READING.orders[0], Order("random", ("blocks 0",)))),
        other,
    )


def test_models_stay_apart() -> None:
    assert merged([EXPLORED, replace(EXPLORED, model="b")]) == [EXPLORED, replace(EXPLORED, model="b")]
