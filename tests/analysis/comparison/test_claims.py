"""Two groups of seeds of one architecture give no difference at the stated rate, planted ones do, and fewer seeds give weaker words."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from adapters.specs import ModelSpec
from analysis.comparison.claims import Claim, Holds, Side, adjusted
from analysis.comparison.questions import Seeded, answer, reconciled, whose
from analysis.comparison.verdicts import reach, what_seeds_say
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
    assert claim(HIGH, LOW, Effect(Interval(0.2, None, None), False, 24)).holds is Holds.OPEN, "some draw had no value"
    assert claim((0.4,) * 4, (0.5,) * 4, Effect(Interval(-0.1, -0.2, -0.05), True, 24)).holds is Holds.ARCHITECTURES, "0.029 by permutation"
    assert claim((0.4,) * 3, (0.5,) * 3, Effect(Interval(-0.1, -0.2, -0.05), True, 24)).holds is Holds.VARY, "0.1 by permutation"
    assert claim((math.nan,), LOW).holds is Holds.NO_GAIN


def test_p_values_are_adjusted_among_those_with_seeds_enough() -> None:
    one, few, other = adjusted([claim(HIGH, LOW), claim(HIGH[:1], LOW), claim((0.9, 0.5, 0.43), LOW)])
    assert few.p is None
    assert one.p == pytest.approx(2 * one.seeds.p)
    assert other.p == pytest.approx(other.seeds.p)
    assert what_seeds_say(one) == "over 3 and 3 seeds, p = 3.30×10⁻⁵"
    said = reach([one, few, other, claim((*HIGH, 0.6), LOW)])
    assert said.endswith("can give no p below: 3 against 3 seeds 0.100; 3 against 4 seeds 0.0286.")
    assert reach([few]) == ""


def of(blocks: int, family: str = "llama") -> ModelSpec:
    return replace(spec(blocks), family=family)


def seeded(name: str, values: Values, family: str = "llama") -> Seeded:
    mean = sum(values) / len(values)
    return Seeded(name, of(12, family), values, Interval(mean, mean - 0.01, mean + 0.01))


def test_a_question_is_answered_for_any_number_of_groups() -> None:
    groups = [seeded("A", HIGH), seeded("B", LOW), seeded("C", (0.2,)), seeded("D", (math.nan,)), *(seeded(x, LOW) for x in "EFG")]
    claims = [
        claim(HIGH, LOW),
        claim(HIGH, (0.2,), names=("A", "C")),
        claim((0.9, 0.5, 0.43), LOW, names=("E", "B")),
        claim(HIGH, LOW, Effect(Interval(0.2, -0.1, 0.5), False, 24), names=("F", "G")),
    ]
    said = answer("effective", groups[:4], claims[:3])
    assert said == (
        "**Over how many blocks is the loss of single removals spread?** A 7.32 (7.02 to 7.62), B 4.92 (4.62 to 5.22) and C 2.40 of 12 "
        "blocks. Not known of D: no better than a byte unigram, or nothing costs anything. Between the architectures as trained here, at "
        "equal tokens A has 2.40 (2.13 to 2.67) blocks more than B. Of these models alone: A more than C. "
        "Too few seeds, or too unlike, to tell apart: E and B."
    )
    assert answer("effective", groups, claims[3:]).endswith("No significant difference: F and G.")
    every = [claim(HIGH, (0.2,), names=("A", "C")), claim(LOW, (0.2,), names=("B", "C")), claim(HIGH[:1], LOW, names=("A", "B"))]
    assert answer("effective", groups[:3], every).endswith("Of these models alone: A more than C and B; B more than C.")
    differ = [claim(HIGH, LOW, matched=matched, names=("A", name)) for matched in ("equal tokens", "equal loss") for name in "BE"]
    assert answer("effective", groups, [*differ, *claims[3:] * 4], "And more.").splitlines()[1:] == [
        "    - And more.",
        "    - Not known of D: no better than a byte unigram, or nothing costs anything.",
        *(
            f"    - Between the architectures as trained here, at equal {matched} A has 2.40 (2.13 to 2.67) blocks more than B and "
            "2.40 (2.13 to 2.67) blocks more than E."
            for matched in ("tokens", "loss")
        ),
        "    - No significant difference: 4 pairs.",
    ]
    few = claim((0.6,), (0.4,), Effect(Interval(0.2, None, None), False, 8), names=("F", "G"))
    assert answer("effective", groups, [few]).endswith("Not known, with too few documents for an interval (8 of at least 12): F and G.")
    wide = seeded("A", (0.5, 0.1, 0.9))
    assert "A 6.00 (0 to 12.0) of 12 blocks." in answer("effective", [wide], []), "no more and no fewer than there are"
    gain = answer("costliest", groups[:2], [replace(claims[0], summary="costliest")])
    assert (
        "% of the gain. Between the architectures as trained here, at equal tokens A has 20.0 (17.7 to 22.3)\u00a0points more than B."
        in gain
    )


def test_of_unequal_numbers_of_blocks_shares_are_compared() -> None:
    """3 of 12 blocks are a larger share than 5 of 30."""
    groups = [seeded("A", HIGH), Seeded("B", of(24), LOW, Interval(0.41, 0.4, 0.42))]
    said = answer("effective", groups, [claim(HIGH, LOW), claim(HIGH[:1], LOW)])
    assert "A 7.32 (7.02 to 7.62) of 12 blocks and B 9.84 (9.24 to 10.4) of 24 blocks." in said
    assert "A has 20.0 (17.7 to 22.3)\u00a0points more, as a share, than B." in said
    assert said.endswith("Of these models alone: A a larger share than B.")


def test_which_side_is_cheaper_is_told_by_the_sign() -> None:
    groups = [seeded("A", (0.05, 0.06, 0.07)), seeded("B", (-0.05, -0.06, -0.07)), seeded("C", (0.05, -0.06, 0.01)), seeded("D", (0.2,))]
    said = answer("against", groups, [])
    assert said.endswith("% of the gain. Width is cheaper in A and D (1 seed); depth is cheaper in B; which is cheaper is not known in C.")


def whose_claims(values: dict[str, Values], transformers: dict[str, Values]) -> list[Claim]:
    """Of every other architecture beside every Transformer; what is less than 0.02 apart documents do not tell apart."""
    claims = []
    for other, theirs in values.items():
        for mine, ours in transformers.items():
            gap = sum(theirs) / len(theirs) - sum(ours) / len(ours)
            told = Effect(Interval(gap, gap - 0.02, gap + 0.02), abs(gap) > 0.02, 24)
            claims.append(Claim("removable", Side(other, theirs), Side(mine, ours), told, "equal tokens"))
    return claims


BY = "by blocks that can go for a tenth of the gain, "
LARGER, SMALLER, THAN = "a larger share of the blocks of", "a smaller share of the blocks of", "can go than of those of"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"R": HIGH, "M": HIGH}, f"No: {BY}{LARGER} R and M {THAN} A."),
        (
            {"R": HIGH, "M": (0.1, 0.11, 0.12)},
            f"No: {BY}{LARGER} R {THAN} A; {SMALLER} M {THAN} A.",
        ),
        ({"R": (0.1, 0.11, 0.12)}, f"Yes: {BY}{SMALLER} R {THAN} A."),
        ({"R": LOW}, f"Not known: {BY}no difference is shown between R and A."),
        (
            {"R": LOW, "M": (0.1, 0.11, 0.12)},
            f"In part, as far as is known: {BY}{SMALLER} M {THAN} A; no difference is shown between R and A.",
        ),
        ({"R": LOW, "lost": (math.nan,)}, f"Not known: {BY}no difference is shown between R and A."),
    ],
)
def test_whose_redundancy_is(values: dict[str, Values], says: str) -> None:
    """A is a Transformer, the others are none."""
    groups = [seeded("A", LOW), *(seeded(name, of, "rwkv") for name, of in values.items())]
    claims = whose_claims(values, {"A": LOW})
    assert whose(groups, claims) == f"**Is redundancy the Transformer's?** {says}"
    assert whose(groups[:1], []) == whose(groups[1:], claims) == ""


def test_whose_redundancy_is_beside_several_transformers_and_as_far_as_seeds_go() -> None:
    transformers = {"A": LOW, "B": HIGH, "C": (0.5, 0.51, 0.52)}
    groups = [*(seeded(name, of) for name, of in transformers.items()), seeded("R", (0.5, 0.51, 0.52), "rwkv")]
    claims = whose_claims({"R": (0.5, 0.51, 0.52)}, transformers)
    said = whose(groups, claims)
    assert said.endswith(f"No: {BY}{LARGER} R {THAN} A; {SMALLER} R {THAN} B; no difference is shown between R and C.")
    few = [replace(one, a=Side(one.a.name, one.a.values[:1])) for one in claims]
    assert whose(groups, few) == f"{said} That is said of these models."
    assert whose(groups, [claims[0], few[1], claims[2]]).endswith("Part of that is of the architectures, the rest of these models (below).")


MEANS = {
    "Llama": {"effective": 0.23, "removable": 0.36, "costliest": 0.77, "others": 0.013, "together": 2.4},
    "RWKV": {"effective": 0.88, "removable": 0.47, "costliest": 0.04, "others": 0.011, "together": 1.5},
}


def test_more_blocks_used_and_more_dispensable_is_explained() -> None:
    said = reconciled(MEANS, ("RWKV", "Llama"), 12)
    assert said.startswith("RWKV uses 10.6 of 12 blocks and Llama 2.76, and yet RWKV can lose 5.64 and Llama 4.32.")
    assert "the loss of Llama sits in one block (77.0\u00a0% of the gain; the costliest of RWKV costs 4.00\u00a0%)" in said
    assert said.endswith(
        "alone each costs 1.30\u00a0% in Llama and 1.10\u00a0% in RWKV (median), and the cheaper half together 2.40 in "
        "Llama and 1.50 in RWKV times as much as alone."
    )
