"""Sentences about quantised models on planted effects, on none, and on too little data."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.display.sentences import Effect
from analysis.quantization import findings
from analysis.quantization.findings import effects


def effect(mean: float, documents: int = 24, noise: float = 0.05, among: int = 0) -> Effect:
    """A planted one, in a family with `among` others that are nothing."""
    rng = np.random.default_rng(0)
    noises = rng.normal(0, noise, (1 + among, documents))
    family = noises - noises.mean(1, keepdims=True)
    family[0] += mean
    return effects(family * 100, np.full(documents, 100))[0]


@pytest.mark.parametrize(
    ("say", "positive", "negative", "null"),
    [
        (
            lambda rise: findings.cost("GPTQ", rise),
            "GPTQ costs 0.300 (0.2",
            "GPTQ lowers the loss by 0.300 (0.2",
            "does not change the loss significantly",
        ),
        (
            findings.order,
            "Quantising first and then removing blocks is better, by 0.300 (0.2",
            "Removing blocks first",
            "do not differ significantly",
        ),
        (findings.together, "0.300 (0.2", "less than the sum", "does not differ significantly"),
    ],
)
def test_planted_effects(say, positive: str, negative: str, null: str) -> None:
    assert positive in say(effect(0.3))
    assert negative in say(effect(-0.3))
    assert null in say(effect(0.0))
    assert "not known: too few documents for an interval (11 of at least 12)" in say(effect(0.3, documents=11))


def test_false_discoveries_are_held_over_the_family() -> None:
    """An effect of 2.4 standard errors stands alone, and not as one of five, whatever its interval."""
    mean = 2.4 * 0.05 / 24**0.5
    alone, one_of_five = effect(mean), effect(mean, among=4)
    assert alone.size == one_of_five.size
    assert (alone.significant, one_of_five.significant) == (True, False)
    assert findings.cost("GPTQ", alone).startswith("GPTQ costs ")
    assert "does not change the loss significantly (false discovery rate 5\u00a0%)" in findings.cost("GPTQ", one_of_five)


def test_bounds_of_a_negative_effect_stay_in_order() -> None:
    found = effect(-0.3)
    _, low, high = found.size
    assert f"({-high:.3f} to {-low:.3f})" in findings.order(found)


def test_blocks_that_are_chosen() -> None:
    assert findings.same_blocks((3, 4), (3, 4), "GPTQ") == "Block Influence chooses the same 2 blocks in the GPTQ model."
    assert "chooses other blocks in the GPTQ model: 7 instead of 4" in findings.same_blocks((3, 4), (3, 7), "GPTQ")
