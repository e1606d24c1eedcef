"""Two groups of seeds of one architecture give no difference at the stated rate, planted ones do, and fewer seeds give weaker words."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adapters.specs import ModelSpec
from analysis.comparison.claims import Claim, Holds, Side, adjusted
from analysis.comparison.questions import Seeded, answer, reconciled
from analysis.comparison.verdicts import what_seeds_say
from analysis.display.sentences import Effect
from analysis.stats.intervals import Interval
from tests.reference.models import spec

TOLD = Effect(Interval(0.2, 0.1, 0.3), True, 24)  # documents tell the means apart
Values = tuple[float, ...]
HIGH, LOW = (0.61, 0.60, 0.62), (0.40, 0.41, 0.42)


def claim(a: Values, b: Values, documents: Effect = TOLD, matched: str = "equal tokens", names: tuple[str, str] = ("A", "B")) -> Claim:
    return Claim("effective", Side(names[0], a), Side(names[1], b), documents, matched)


@pytest.mark.parametrize(("a", "b"), [(3, 3), (4, 4), (4, 3)])
def test_one_architecture_twice_gives_no_difference_at_the_stated_rate(a: int, b: int) -> None:
    """Whatever documents say: single models always differ on enough of them."""
    rng, repeats = np.random.default_rng([a, b]), 1000
    found = [claim(tuple(rng.normal(0.5, 0.05, a)), tuple(rng.normal(0.5, 0.05, b))).holds for _ in range(repeats)]
    assert np.mean([holds is Holds.ARCHITECTURES for holds in found]) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / repeats)
    assert set(found) == {Holds.ARCHITECTURES, Holds.VARY}


def test_of_many_claims_at_once_few_repeats_have_a_false_one() -> None:
    rng, repeats = np.random.default_rng(1), 300
    false = 0
    for _ in range(repeats):
        claims = adjusted([claim(*(tuple(rng.normal(0.5, 0.05, 4)) for _ in "ab")) for _ in range(10)])
        false += any(one.holds is Holds.ARCHITECTURES for one in claims)
    assert false / repeats <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / repeats)


def test_planted_architectures_differ() -> None:
    rng = np.random.default_rng(2)
    found = [claim(tuple(rng.normal(0.9, 0.03, 4)), tuple(rng.normal(0.3, 0.03, 4))).holds for _ in range(100)]
    assert np.mean([holds is Holds.ARCHITECTURES for holds in found]) > 0.98


def test_fewer_seeds_and_unlike_trainings_give_the_weaker_sentence() -> None:
    assert claim(HIGH, LOW).holds is Holds.ARCHITECTURES
    assert claim(HIGH, LOW[:2]).holds is Holds.MODELS
    assert claim(HIGH, LOW, matched="").holds is Holds.MODELS
    assert claim((0.6, 0.3), LOW).holds is Holds.DISAGREE
    assert claim((0.9, 0.5, 0.43), LOW).holds is Holds.VARY
    assert claim(HIGH, LOW, Effect(Interval(0.2, -0.1, 0.5), False, 24)).holds is Holds.NONE, "other documents might say the reverse"
    assert claim(HIGH, LOW, Effect(Interval(0.2, None, None), False, 8)).holds is Holds.OPEN
    assert claim((math.nan,), LOW).holds is Holds.NO_GAIN


def test_p_values_are_adjusted_among_those_with_seeds_enough() -> None:
    one, few, other = adjusted([claim(HIGH, LOW), claim(HIGH[:1], LOW), claim((0.9, 0.5, 0.43), LOW)])
    assert few.p is None
    assert one.p == pytest.approx(2 * one.seeds.p)
    assert other.p == pytest.approx(other.seeds.p)
    assert what_seeds_say(one).startswith("over seeds: Welch's t, p = 1.65×10⁻⁵, 3.30×10⁻⁵ adjusted; by exact permutation")
    assert "adjusted" not in what_seeds_say(other)


def of(blocks: int) -> ModelSpec:
    return spec(blocks)


def test_a_question_is_answered_for_any_number_of_groups() -> None:
    groups = [Seeded("A", of(12), HIGH), Seeded("B", of(12), LOW), Seeded("C", of(12), (0.2,)), Seeded("D", of(12), (math.nan,))]
    claims = [
        claim(HIGH, LOW),
        claim(HIGH, (0.2,), names=("A", "C")),
        claim((0.9, 0.5, 0.43), LOW, names=("E", "B")),
        claim(HIGH, LOW, Effect(Interval(0.2, -0.1, 0.5), False, 24), names=("F", "G")),
    ]
    said = answer("effective", groups, claims)
    assert said.startswith(
        "**Over how many blocks is the loss of single removals spread?** A 7.32 (7.02 to 7.62) of 12 blocks (3 seeds); B "
    )
    assert (
        "; C 2.40 of 12 blocks (1 seed). A difference between the architectures as trained here: A more than B by 2.40 (2.13 to 2.67) at"
        in said
    )
    assert "(over seeds: Welch's t, p = 1.65×10⁻⁵; by exact permutation p = 0.100, the least that 3 against 3 can give)." in said
    assert "Of these models alone, for want of seeds trained alike: A more than C." in said
    assert "Seeds vary too much to say it of the architectures: E and B. Not significant: F and G." in said
    assert " D " not in said
    assert "no model is better than a byte unigram" in answer("area", groups[-1:], [])


MEANS = {
    "Llama": {"effective": 0.23, "removable": 0.36, "costliest": 0.77, "others": 0.013, "together": 2.4},
    "RWKV": {"effective": 0.88, "removable": 0.47, "costliest": 0.04, "others": 0.011, "together": 1.5},
}


def test_more_blocks_used_and_more_dispensable_is_explained_and_only_then() -> None:
    said = reconciled(MEANS, ("Llama", "RWKV"), 12)
    assert said.startswith(
        "RWKV uses more of its 12 blocks than Llama (10.6 against 2.76 effective ones), and yet more of them can go (5.64 "
    )
    assert "the costliest costs 77.0\u00a0% in Llama, 4.00\u00a0% in RWKV of the gain" in said
    assert "2.40 in Llama, 1.50 in RWKV times as much as alone" in said
    assert reconciled(MEANS | {"RWKV": MEANS["RWKV"] | {"removable": 0.2}}, ("Llama", "RWKV"), 12) == ""
    assert reconciled(MEANS | {"RWKV": MEANS["RWKV"] | {"area": math.nan}}, ("Llama", "RWKV"), 12) == ""
