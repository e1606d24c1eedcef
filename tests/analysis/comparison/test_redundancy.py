"""Summaries of redundancy against closed forms, and their intervals on a planted difference and on noise."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from adapters.catalogue import PACKAGES
from analysis.comparison.redundancy import LIMIT, SUMMARIES, area, effective_number, effective_share, estimate, gini, removable
from analysis.data.documents import SPLITS, Window, documents
from analysis.data.unigram import unigram_bits
from analysis.stats.estimates import mean
from analysis.stats.rank_agreement import Scores
from tests.analysis.data.test_documents import Bytes


def test_one_block_that_holds_all_and_blocks_that_are_alike() -> None:
    one, alike = np.array([0.0, 3, 0, 0]), np.full(4, 0.2)
    assert effective_number(one) == pytest.approx(1)
    assert effective_number(alike) == pytest.approx(4)
    assert effective_share(alike) == pytest.approx(1)
    assert gini(one) == pytest.approx(1 - 1 / 4)
    assert gini(alike) == pytest.approx(0)


def test_effective_number_and_gini_by_hand() -> None:
    losses = np.array([0.5, 0.25, 0.25])
    assert effective_number(losses) == pytest.approx(2 ** (0.5 * 1 + 2 * 0.25 * 2))
    pairs = np.abs(losses[:, None] - losses).sum() / (2 * 3**2 * losses.mean())  # half the relative mean difference
    assert gini(losses) == pytest.approx(pairs)
    assert gini(losses * 7) == pytest.approx(pairs), "the scale does not matter"


def test_a_removal_that_helps_counts_as_free() -> None:
    assert effective_number(np.array([1.0, 1, -5])) == pytest.approx(2)
    assert np.isnan(effective_number(np.array([-1.0, 0]))), "where nothing costs anything there is no share"
    assert np.isnan(gini(np.zeros(3)))


def test_what_can_go_ends_at_the_first_set_that_costs_too_much() -> None:
    path = np.array([[0.0, LIMIT, 2 * LIMIT, 0], [2 * LIMIT, 0, 0, 0], [0, 0, 0, 0]])
    assert removable(path) == pytest.approx([0.5, 1 / 8, 1])
    assert removable(np.array([0.0, LIMIT / 2, 5, 0])) == pytest.approx((2 + 0.5 / 9.5) / 4 if LIMIT == 0.1 else 0), "5 counts as 1"
    assert removable(path, 2 * LIMIT) == pytest.approx([1, 1, 1])
    line = np.linspace(0, 1, 25)[1:]
    assert removable(line) == pytest.approx(removable(line[3::4])) == pytest.approx(LIMIT), "whatever the number of blocks"


def test_area_of_straight_lines() -> None:
    assert area(np.linspace(0.1, 1, 10)) == pytest.approx(0.5)
    assert area(np.zeros(5)) == 0
    assert area(np.array([9.0, 9, 9, 9])) == pytest.approx(1 - 1 / 8), "what is worse than the unigram counts as the unigram"


def sums(means: np.ndarray, documents: int, noise: float, seed: int = 0) -> Scores:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(80, 120, documents).astype(float)
    return Scores((means[:, None] + rng.normal(0, noise, (len(means), documents))) * tokens, tokens)


def test_intervals_hold_planted_values_and_differences_are_paired() -> None:
    spread, gathered = np.full(8, 0.5), np.array([3.0, *np.full(7, 0.1)])
    a, b = (estimate(effective_number, sums(m, 40, 0.05)) for m in (spread, gathered))
    assert a.interval.low <= 8.001
    assert a.interval.low <= a.value <= a.interval.high
    gap = (a - b).interval
    assert gap.value == pytest.approx(a.value - b.value)
    assert gap.low > 0
    assert (a - b).p < 0.01
    same = a - estimate(effective_number, sums(spread, 40, 0.05))
    assert same.interval == (0, 0, 0)
    assert same.p == 1
    assert mean([a, b]).value == pytest.approx((a.value + b.value) / 2)


def test_noise_alone_is_seldom_told() -> None:
    """Two models with equal blocks: of forty pairs two or three at most differ at 5 % in the area."""
    path = np.linspace(0.05, 0.9, 6)
    significant = sum((estimate(area, sums(path, 24, 0.2, s)) - estimate(area, sums(path, 24, 0.2, s + 100))).p <= 0.05 for s in range(40))
    assert significant <= 6


def test_too_few_documents_have_no_interval_and_no_margin_no_value() -> None:
    few = estimate(gini, sums(np.arange(1.0, 5), 11, 0.1))
    assert np.isfinite(few.value)
    assert few.interval[1:] == (None, None)
    assert few.p == 1
    lost = estimate(SUMMARIES["area"].of, Scores(np.ones((3, 20)), -np.ones(20)))
    assert np.isnan(lost.value)
    assert lost.interval.low is None
    known = estimate(SUMMARIES["area"].of, sums(np.linspace(0.1, 1, 4), 12, 0.1))
    for mixed in (lost - known, known - lost, mean([known, lost])):
        assert np.isnan(mixed.value)
        assert mixed.interval.low is None
        assert mixed.p == 1


def test_a_unigram_knows_how_often_bytes_come(tmp_path) -> None:
    """A text of two letters, one three times as often: its entropy, on stretches of known counts."""
    (tmp_path / "text.txt").write_text("\n".join("aaab" * 1100 for _ in range(40)))
    bits = unigram_bits(str(tmp_path / "text.txt"), [Window("x", 0, "bbaaab"), Window("y", 0, "ab")], np.array([4, 1]))
    assert bits == pytest.approx([3 * np.log2(4 / 3) + 2, 2], rel=0.05), "only the bytes at the end count"
    assert Bytes().bos_id is None


@pytest.mark.skipif(importlib.util.find_spec(PACKAGES["texts"].module) is None, reason="needs the offline texts: run `strata fetch texts`")
def test_the_unigram_of_a_part_of_the_texts_is_of_its_calibration_split() -> None:
    corpus = "texts:MedQA"
    counts = np.full(256, 0.5)
    for document in documents(corpus):
        if document.split(SPLITS) == "calibration":
            counts += np.bincount(np.frombuffer(document.text.encode(), dtype=np.uint8), minlength=256)
    expected = -np.log2(counts / counts.sum())
    assert unigram_bits(corpus, [Window("x", 0, "ae")], np.array([2])) == pytest.approx([expected[ord("a")] + expected[ord("e")]])
