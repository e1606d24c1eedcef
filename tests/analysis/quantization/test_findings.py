"""Sentences about quantised models on planted effects, on none, and on too little data."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.quantization import findings
from analysis.statistics import Interval, ratio


def interval(effect: float, documents: int = 24, noise: float = 0.05) -> Interval:
    differences = np.random.default_rng(0).normal(0, noise, documents)
    return ratio((differences - differences.mean() + effect) * 100, np.full(documents, 100))


@pytest.mark.parametrize(
    ("say", "positive", "negative", "null"),
    [
        (
            lambda i, n: findings.cost("GPTQ", i, n),
            "GPTQ costs 0.300 (0.2",
            "GPTQ lowers the loss, by 0.300 (0.2",
            "costs nothing that these",
        ),
        (
            findings.order,
            "Quantising first and removing blocks afterwards is better, by 0.300 (0.2",
            "Removing blocks first",
            "is not supported",
        ),
        (findings.together, "0.300 (0.2", "less than the sum", "is not supported"),
    ],
)
def test_planted_effects(say, positive: str, negative: str, null: str) -> None:
    assert positive in say(interval(0.3), 24)
    assert negative in say(interval(-0.3), 24)
    assert null in say(interval(0.0), 24)
    few = say(interval(0.3, documents=11), 11)
    assert "open: too few documents for an interval (11, needs 12)" in few


def test_bounds_of_a_negative_effect_stay_in_order() -> None:
    low, high = interval(-0.3)[1:]
    assert f"({-high:.3f} to {-low:.3f})" in findings.order(interval(-0.3), 24)


def test_blocks_that_are_chosen() -> None:
    assert findings.same_blocks((3, 4), (3, 4), "GPTQ") == "Block Influence chooses the same 2 blocks in the GPTQ model."
    assert "chooses other blocks in the GPTQ model: 7 in place of 4" in findings.same_blocks((3, 4), (3, 7), "GPTQ")
