"""What is concluded about models from planted numbers: an effect, pure noise, too little data, nothing measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.redundancy.findings import FLOPS, PARAMETERS, AtEqual, Findings, Range, merged
from analysis.redundancy.sentences import (
    answers,
    conclusion,
    depth_or_width_cell,
    effective,
    influence_cell,
    removable_cell,
)
from analysis.stats.intervals import Interval


def around(value: float, half: float = 0.1) -> Interval:
    return Interval(value, value - half, value + half)


def points(*cheaper: str, measure: str = PARAMETERS) -> tuple[AtEqual, ...]:
    """From 10 % on, every 2 %: where depth or width is cheaper, or neither."""
    levels = {"depth": (0.1, 0.5), "width": (0.5, 0.1), "": (0.3, 0.3)}
    return tuple(AtEqual(measure, 0.1 + 0.02 * i, *map(around, levels[name]), bool(name)) for i, name in enumerate(cheaper))


PLANTED = Findings(
    "zoo_a",
    "Transformer",
    12,
    "texts",
    24,
    128,
    gain=around(2.0),
    effective=around(2.7),
    removable=Interval(4, 3, 4),
    measured_up_to=8,
    influence=around(0.8),
    heads=(14, 48),
    against=(*points("depth", "depth", "depth", ""), *points("depth", "", measure=FLOPS)),
)
NOISE = replace(PLANTED, model="noise", gain=around(-0.4), removable=Interval(8, 8, 8))


def test_a_planted_effect() -> None:
    said = conclusion(PLANTED)
    assert said.startswith("Depth is cheaper than width here, up to 14 % of the block parameters")
    assert "up to 10 % of the FLOPs per token." in said
    assert "can lose 4 of 12 blocks (95\u00a0% interval 3 to 4) for a tenth of the gain over a byte unigram." in said
    assert "Block Influence orders the blocks as the loss does: Kendall's tau with the rise in loss is 0.80 (0.70 to 0.90)." in said
    assert (removable_cell(PLANTED), depth_or_width_cell(PLANTED)) == ("4 of 12 (3 to 4)", "depth up to 14 %")
    assert influence_cell(PLANTED) == "yes, tau 0.80 (0.70 to 0.90)"


def test_what_changes_sides_is_said_with_both_ends() -> None:
    found = replace(PLANTED, against=points("", "width", "width", "", "depth"))
    assert found.ranges() == [
        Range("width", pytest.approx(0.12), pytest.approx(0.14), False),
        Range("depth", pytest.approx(0.18), pytest.approx(0.18), False),
    ]
    assert "Width is cheaper than depth here, from 12 % to 14 % and depth is cheaper than width here, at 18 %" in conclusion(found)


def test_pure_noise_is_not_known() -> None:
    """Random weights: whatever the intervals of their losses say, there is nothing to lose."""
    assert conclusion(NOISE) == (
        "How redundant noise is, in depth or in width, is not known: "
        "it predicts the text no better than the frequencies of single bytes do."
    )
    assert {removable_cell(NOISE), depth_or_width_cell(NOISE), influence_cell(NOISE)} == {"not known"}
    (said,) = answers([NOISE])
    assert said.startswith(
        "How many blocks can go, whether depth or width is cheaper, and whether Block Influence knows: not known (noise: it"
    )
    assert "lose 8" not in said
    unsure = replace(PLANTED, gain=Interval(0.1, -0.1, 0.3))
    assert "its gain over a byte unigram is not significant" in conclusion(unsure)


def test_no_difference_is_no_answer() -> None:
    found = replace(PLANTED, against=points("", ""), influence=Interval(0.1, -0.3, 0.5))
    assert conclusion(found).startswith("Whether depth or width is cheaper is not known: up to 12 % saved")
    assert depth_or_width_cell(found) == "no significant difference"
    assert influence_cell(found).startswith("not shown")
    assert "is not shown to order the blocks" in conclusion(found)


def test_too_little_data() -> None:
    few = replace(PLANTED, n_documents=11)
    assert conclusion(few).endswith("is not known: too few documents for an interval (11 of at least 12).")
    assert all("not known" in sentence for sentence in answers([few]))


def test_several_models_are_one_sentence_for_each_question() -> None:
    free = replace(PLANTED, model="free", removable=Interval(8, 7, 8), against=(), missing={"against": "it has no heads"})
    how_many, width, knows = answers([PLANTED, free, NOISE])
    assert how_many.replace("\\", "").startswith(
        "For a tenth of the gain over a byte unigram, zoo_a can lose 4 of 12 blocks (95\u00a0% interval 3 to 4); "
        "free can lose at least 8 of 12"
    )
    assert "Not known (noise: it predicts the text no better than" in how_many
    assert "free: it has no heads" in width
    assert width.replace("\\", "").startswith("At equal savings of block parameters, in zoo_a depth is cheaper up to 14 %.")
    assert knows.count("yes for") == 2


def test_a_transformer_and_an_rwkv() -> None:
    other = replace(PLANTED, model="b", architecture="RWKV", effective=around(10.4))
    said = effective(PLANTED, other).replace("\\", "")
    assert said.startswith(
        "The loss of zoo_a (Transformer) is spread over fewer blocks than that of b (RWKV): 2.70 against 10.4 effective blocks of 12"
    )
    assert "12, significantly;" in said
    assert "but their intervals overlap" in effective(PLANTED, replace(other, effective=around(2.8)))
    assert "is not known: noise: it predicts" in effective(other, NOISE)


def test_one_row_a_model() -> None:
    part = Findings("zoo_a", "Transformer", 12, "texts", 24, 128, influence=around(0.8))
    assert merged([part, PLANTED, NOISE]) == [PLANTED, NOISE]
    assert removable_cell(part) == "not known"
