"""Sentences claim a difference of architectures only with seeds that agree and training that is alike."""

from __future__ import annotations

import math

from analysis.comparison.claims import Claim, Side
from analysis.comparison.redundancy import SUMMARIES
from analysis.comparison.verdicts import BY_DEPTH, controlled, difference, differences, equally, few_seeds, over_training, spread
from analysis.display.sentences import Effect
from analysis.stats.intervals import Interval

AREA, GO = SUMMARIES["area"], SUMMARIES["removable"]
GAP, NONE = Interval(0.2, 0.15, 0.25), Interval(0.02, -0.03, 0.07)


def verdict(
    a: tuple[float, ...], b: tuple[float, ...], gap: Interval = GAP, *, significant: bool = True, matched: str = "equal tokens", n: int = 24
) -> str:
    return difference(Claim("area", Side("Llama", a), Side("RWKV", b), Effect(gap, significant, n), matched))


def test_three_agreeing_seeds_trained_alike_speak_of_architectures() -> None:
    said = verdict((0.61, 0.60, 0.62), (0.40, 0.41, 0.42))
    assert "Llama loses more as blocks are removed" in said
    assert "a difference between the architectures as trained here, at equal tokens (over 3 and 3 seeds, p = 1.65×10⁻⁵)." in said
    other = verdict((0.40, 0.41, 0.42), (0.61, 0.60, 0.62), Interval(-0.2, -0.25, -0.15), matched="equal loss")
    assert "RWKV loses more as blocks are removed" in other
    assert "at equal loss" in other


def test_fewer_seeds_speak_of_models_and_that_is_said_once() -> None:
    for a, b in (((0.6,), (0.4,)), ((0.6, 0.61), (0.4, 0.41, 0.42))):
        said = verdict(a, b)
        assert "Llama loses more as blocks are removed." in said
        assert "architectures" not in said
    two, three, four = (Side(name, (0.5,) * n) for name, n in (("Llama", 2), ("RWKV", 3), ("Baichuan", 4)))
    assert few_seeds([(three, four)]) == ""
    assert few_seeds([(two, three)]).startswith("These sentences are about these models, not about architectures")
    assert few_seeds([(two, three), (three, four)]).startswith("What is said of Llama and RWKV is about these models")


def test_the_effect_is_given_in_blocks() -> None:
    def said(n_blocks: tuple[int, int], significant: bool = True) -> str:
        sides = Side("Llama", (0.2, 0.25)), Side("RWKV", (0.8, 0.9))
        gap = Effect(Interval(-0.6, -0.7, -0.5), significant, 24)
        return difference(Claim("effective", *sides, gap, "equal tokens"), n_blocks=n_blocks)

    assert said((12, 12)).startswith(
        "2.70 effective blocks of 12 for Llama against 10.2 for RWKV: significantly, the loss of RWKV is spread"
    )
    assert said((12, 24)).startswith("2.70 effective blocks of 12 for Llama against 20.4 of 24 for RWKV")
    assert said((12, 12), significant=False).endswith("They do not differ significantly.")


def test_what_holds_of_architectures_is_said_once() -> None:
    gap = Effect(GAP, significant=True, n_documents=24)
    area = Claim("area", Side("Llama", (0.61, 0.60, 0.62)), Side("RWKV", (0.40, 0.41, 0.42)), gap, "equal tokens", 0.002)
    spread_out = Claim(
        "effective",
        Side("RWKV", (0.80, 0.81, 0.82)),
        Side("Llama", (0.2, 0.21, 0.22)),
        Effect(Interval(0.6, 0.5, 0.7), True, 24),
        "equal tokens",
        0.001,
    )
    said = differences([(spread_out, (12, 12)), (area, None)])
    assert said == (
        "9.72 effective blocks of 12 for RWKV against 2.52 for Llama. Area under the removal curve: 0.610 for Llama, 0.410 for RWKV; "
        "difference 0.200 (0.150 to 0.250). Significantly, the loss of RWKV is spread over a larger share of its blocks and Llama loses "
        "more as blocks are removed: differences between the architectures as trained here, at equal tokens (over 3 and 3 seeds, p at most "
        "0.00200)."
    )
    of_models = Claim("area", Side("Llama", (0.6,)), Side("RWKV", (0.4,)), gap, "equal tokens")
    apart = differences([(spread_out, (12, 12)), (of_models, None)])
    assert apart == f"{difference(spread_out, n_blocks=(12, 12))} {difference(of_models)}"


def test_models_that_were_not_trained_alike_say_nothing_of_architectures() -> None:
    said = verdict((0.61, 0.60, 0.62), (0.40, 0.41, 0.42), matched="")
    assert said.endswith("Llama loses more as blocks are removed.")


def test_two_seeds_that_disagree_support_nothing() -> None:
    """The documents tell the means apart, and yet one seed of each is the other way round."""
    said = verdict((0.9, 0.3), (0.40, 0.41))
    assert "The seeds disagree" in said
    assert "no difference is supported" in said


def test_seeds_that_vary_as_much_as_they_differ_do_not_carry_a_claim() -> None:
    said = verdict((0.9, 0.5, 0.43), (0.40, 0.41, 0.42))
    assert "Seeds are too few, or vary too much, to say it of the architectures" in said


def test_noise_is_not_told_apart_and_few_documents_leave_it_open() -> None:
    assert "do not differ significantly" in verdict((0.5, 0.51, 0.52), (0.49, 0.5, 0.5), NONE, significant=False)
    said = verdict((0.6,) * 3, (0.4,) * 3, Interval(0.2, None, None), n=8)
    assert "not known: too few documents for an interval (8 of at least 12)" in said
    assert "loses more" not in said


def test_no_margin_no_comparison() -> None:
    said = verdict((math.nan,), (0.4,), Interval(math.nan, None, None), significant=False)
    assert said.startswith("Area under the removal curve cannot be compared")


def test_spread_of_seeds_beside_documents() -> None:
    wide, narrow = Interval(0.4, 0.3, 0.5), Interval(0.4, 0.38, 0.42)
    one, near, far = Side("One", (0.4,)), Side("Near", (0.39, 0.41)), Side("Far", (0.2, 0.6))
    assert spread(GO, [(one, wide), (near, wide), (far, narrow)]) == (
        "By the share of removable blocks, seeds lie within what documents explain in Near (0.390 to 0.410); further apart than documents "
        "explain in Far (0.200 to 0.600)."
    )
    assert "seeds lie apart in Near (" in spread(GO, [(near, Interval(0.4, None, None))])
    assert spread(GO, [(one, wide)]) == "", "one seed does not lie apart"


def test_controlled_and_uncontrolled_pairs_are_named() -> None:
    said = controlled([("Llama", "RWKV", "equal tokens"), ("Llama", "smollm2", "")])
    assert "Trained alike, so that only the architecture differs: Llama and RWKV (equal tokens)." in said
    assert "Not trained alike, so that data, size and budget may differ: Llama and smollm2." in said
    assert "Trained alike" not in controlled([("a", "b", "")])
    assert "equal loss" not in said
    three = [("A", "B", "equal tokens"), ("A", "C", "equal tokens"), ("B", "C", "equal tokens"), ("A", "early B", "equal loss")]
    said = controlled(three)
    assert (
        "architecture differs: A, B and C (equal tokens); A and early B (equal loss). At equal loss the early checkpoint has also" in said
    )
    assert "A and B (equal tokens); A and C (equal tokens)." in controlled(three[:2])
    deep = controlled([("A", "B", "equal tokens"), ("A", "A of 6 blocks", BY_DEPTH)])
    assert deep == (
        "Trained alike, in more and narrower blocks or in fewer and wider ones: A and A of 6 blocks. "
        "Trained alike, so that only the architecture differs: A and B (equal tokens)."
    )


def test_redundancy_over_training() -> None:
    falls = Interval(-0.2, -0.3, -0.1)
    assert "Llama becomes more redundant during training" in over_training("Llama", AREA, 100, 1500, Effect(falls, True, 24))
    assert "Llama becomes less redundant" in over_training("Llama", GO, 100, 1500, Effect(falls, True, 24))
    assert "That is not significant." in over_training("Llama", AREA, 100, 1500, Effect(NONE, False, 24))
    assert "not known: too few" in over_training("Llama", AREA, 100, 1500, Effect(Interval(-0.2, None, None), False, 3))
    assert "two steps after the start are needed" in over_training("Llama", AREA, 0, 4, Effect(Interval(math.nan, None, None), False, 24))


def growth(a: tuple[float, ...], b: tuple[float, ...], gap: Interval, *, significant: bool = True, n: int = 24) -> str:
    return equally(Claim("area", Side("Llama", a), Side("RWKV", b), Effect(gap, significant, n), "equal tokens"))


def test_the_larger_change_comes_first_with_a_positive_number() -> None:
    higher, lower = Interval(0.2, 0.15, 0.25), Interval(-0.2, -0.25, -0.15)
    apart = "by 0.200 (0.150 to 0.250) more in"
    for a, b, gap, says in (
        ((0.3,), (0.1,), higher, f"rises {apart} Llama than in RWKV."),
        ((0.1,), (0.3,), lower, f"rises {apart} RWKV than in Llama."),
        ((-0.3,), (-0.1,), lower, f"falls {apart} Llama than in RWKV."),
        ((-0.1,), (-0.3,), higher, f"falls {apart} RWKV than in Llama."),
        ((0.1,), (-0.1,), higher, f"rises {apart} Llama than in RWKV, where it falls."),
    ):
        said = growth(a, b, gap)
        assert says in said
        assert "these 2 trainings, not about architectures" in said


def test_growth_that_is_not_told_apart() -> None:
    assert "That is not significant." in growth((0.11,), (0.1,), NONE, significant=False)
    assert "not known: too few" in growth((0.3,), (0.1,), Interval(0.2, None, None), significant=False, n=3)
    assert "The seeds disagree" in growth((0.5, 0.1), (0.1, 0.1), GAP)
    assert "these 4 trainings" in growth((0.3, 0.35), (0.1, 0.15), GAP)
    assert growth((math.nan,), (0.1,), Interval(math.nan, None, None)) == ""
