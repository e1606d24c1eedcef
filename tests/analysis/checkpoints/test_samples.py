"""Scores of a card's texts where plain ratios go wrong: shares near their ends, and texts none of which ends by itself."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.checkpoints.samples import Samples
from analysis.writing.measures import agreement, longest_loop

DENSE = np.random.default_rng(0).integers(0, 50, (12, 8)).tolist()
PRUNED = [[DENSE[0][0], *[77] * 7], *([100 + p, *[77] * 7] for p in range(1, 12))]  # one token of one text agrees


def texts(each: list[list[int]]) -> list[dict]:
    return [{"tokens": tokens, "text": f"text {tokens[0]}", "why": "length"} for tokens in each]


@pytest.fixture(scope="module")
def samples() -> Samples:
    found = np.array([texts(DENSE), texts(PRUNED)], dtype=object)
    losses = np.array([np.arange(12) + 8.0, np.arange(12) + 24.0])
    return Samples.of(["a"] * 12, found, losses)


def test_shares_stay_shares(samples: Samples) -> None:
    """Student's interval of one agreeing text of twelve goes below zero."""
    found = samples.scores["agreement"].pruned
    assert found.value == pytest.approx(np.mean([agreement(a, b) for a, b in zip(PRUNED, DENSE, strict=True)]))
    assert found.low == 0
    assert found.high is not None
    assert 0 < found.high < 0.1
    for name in ("agreement", "loop", "distinct_3", "stopped"):
        for one in samples.scores[name][:2]:
            assert 0 <= one.low <= one.value <= one.high <= 1


def test_none_of_twelve_is_not_never(samples: Samples) -> None:
    """Wilson's interval, and of the difference Agresti and Min's: an interval without width would say that no text ever ends."""
    z2 = 1.959964**2
    for one in samples.scores["stopped"][:2]:
        assert one == (0, 0, pytest.approx(z2 / (12 + z2)))
    delta = samples.scores["stopped"].delta
    assert delta is not None
    assert (delta.value, delta.low) == (0, pytest.approx(-delta.high))
    assert delta.high == pytest.approx((z2 / 14 / 14) ** 0.5)


def test_differences_are_paired(samples: Samples) -> None:
    """Losses differ by prompt, and by 2 nats per token in each."""
    found = samples.scores["dense_nll"]
    assert found.delta == (pytest.approx(2), pytest.approx(2), pytest.approx(2))
    assert found.pruned.high - found.pruned.low > 0.5
    assert samples.scores["loop"].delta.value == pytest.approx(7 / 8 - np.mean([longest_loop(text) / 8 for text in DENSE]))
    assert samples.scores["agreement"].delta is None
    held = samples.to_json()["scores"]
    assert held["dense_nll"]["delta"] == pytest.approx([2, 2, 2])
    assert held["agreement"]["delta"] is None


def test_the_card_has_a_line_of_each(samples: Samples) -> None:
    rows = [line for line in samples.lines() if line.startswith("|")]
    assert all(row.count("|") == 5 for row in rows)
    assert "| share of texts that end before the limit | 0 (0 to 0.242) | 0 (0 to 0.242) | 0 (−0.140 to +0.140) |" in rows
