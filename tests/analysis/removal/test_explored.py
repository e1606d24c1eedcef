"""What is handed over for readers who pick parts: each set once a text, as it was tested, and each order once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.data.batches import Text
from analysis.depth_vs_width.study import kinds_of
from analysis.engine.ablations import single_ablations
from analysis.removal.explored import Explored, Measured, Order, Paths, Reading, explored, merged
from analysis.removal.paths import nested, score, union
from analysis.stats.intervals import Interval
from tests.reference.families import STOCK
from tests.reference.models import pair

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


@pytest.mark.parametrize(
    ("model_type", "config"),
    [("llama", {}), ("mixtral", {"num_local_experts": 5}), *((name, STOCK[name]) for name in ("mamba", "jamba"))],
)
def test_every_set_is_of_parts_that_can_be_picked(model_type: str, config: dict) -> None:
    """Along paths of every kind that is compared, and of all kinds together."""
    model, _ = pair(model_type, **config)
    of = {kind: single_ablations(model.spec, [kind]) for kind in kinds_of(model.spec)}
    paths = {kind: nested(parts[:4]) for kind, parts in (of | {"all": [parts[-1] for parts in of.values()]}).items()}
    sets = union(paths)
    sums = {"nll": np.zeros((len(sets), 2)), "tokens": np.full(2, 10), "bytes": np.full(2, 30)}
    found = explored(model, paths=[Paths(score(model, sets, sums, paths), {kind: kind for kind in paths}, Text())])
    assert {part.split()[0] for part in found.parts} == set(of)
    (reading,) = found.readings
    assert len(reading.sets) == len(sets) - 1, "all but the unpruned model"
    for one in reading.sets:
        for kind, labels in (piece.split(" ", 1) for piece in one.out.split("; ")):
            assert all(f"{kind} {label}" in found.parts for label in labels.split(", ")), one.out
