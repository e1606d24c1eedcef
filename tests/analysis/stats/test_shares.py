"""The interval of a share covers what it should, and a score that is no better than guessing has none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.stats.shares import kept


def test_fiellers_interval_by_hand() -> None:
    """Its ends are the shares q of which a t-test of x - q y gives p = 0.05."""
    rng = np.random.default_rng(1)
    y = rng.gamma(4, size=30)
    x = 0.6 * y + rng.normal(0, 0.5, 30)
    found = kept(x, y)
    assert found.value == pytest.approx(x.sum() / y.sum())
    assert found.low is not None
    assert found.high is not None
    for end in (found.low, found.high):
        assert stats.ttest_1samp(x - end * y, 0).pvalue == pytest.approx(0.05, rel=1e-9)


@pytest.mark.parametrize(("dense", "left", "chance"), [(0.6, 0.5, 0.0), (0.3, 0.3, 0.0), (0.7, 0.5, 0.25), (0.8, 0.0, 0.5)])
def test_right_answers_are_covered(dense: float, left: float, chance: float) -> None:
    """Answers that are right by luck, or because the model knows; the pruned one keeps some of what the unpruned one knows."""
    rng, n, draws = np.random.default_rng(7), 60, 600
    knows = (dense - chance) / (1 - chance)
    held = []
    for _ in range(draws):
        known, guess, again = rng.random(n) < knows, rng.random(n) < chance, rng.random(n) < chance
        y = (known | guess).astype(float) - chance
        x = ((known & (rng.random(n) < left)) | again).astype(float) - chance
        found = kept(x, y, right=(-chance, 1 - chance))
        if np.isfinite(found.value):
            held.append(found.low <= left <= found.high)
    assert len(held) > draws / 2
    assert 0.92 <= np.mean(held) <= 0.99, np.mean(held)


def test_one_right_answer_that_is_lost_shows_nothing() -> None:
    """Of 40 questions; ten lost ones do."""
    wrong, dense = np.zeros(40), np.zeros(40)
    dense[:1] = 1
    assert np.isnan(kept(wrong, dense, right=(0, 1)).value), "one of 40 is no more than none"
    dense[:10] = 1
    found = kept(wrong, dense, right=(0, 1))
    assert found.value == 0
    assert found.high is not None
    assert found.high < 0.5


def test_noise_has_no_share() -> None:
    rng = np.random.default_rng(3)
    assert np.isnan(kept(rng.normal(0, 1, 40), rng.normal(0, 1, 40)).value)
    assert kept(np.ones(5), np.ones(5)) == (1.0, None, None)
