"""Intervals cover what they should, and decisions find planted effects and nothing in noise."""

import warnings

import numpy as np
import pytest
from scipy import stats

from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, Interval, differs_from_zero, ratio


def simulated(rng: np.random.Generator, documents: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums over tokens, and their numbers, of documents with skewed means around 3."""
    counts = rng.integers(40, 130, documents)
    means = 2 + rng.gamma(2, 0.5, documents)
    return rng.normal(means * counts, np.sqrt(counts)), counts


def test_mean_has_the_interval_of_scipy() -> None:
    x = np.random.default_rng(1).gamma(2, size=30)
    found = ratio(x, np.ones(30))
    expected = stats.bootstrap((x,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(2)).confidence_interval
    width = expected.high - expected.low
    assert found.value == pytest.approx(x.mean())
    assert found.low == pytest.approx(expected.low, abs=0.06 * width)
    assert found.high == pytest.approx(expected.high, abs=0.06 * width)


def test_ratio_equals_bca_written_out() -> None:
    """Efron (1987), documents resampled with their token counts, the exponential taken inside."""
    rng = np.random.default_rng(3)
    sums, counts = simulated(rng, 25)
    value = np.exp(sums.sum() / counts.sum())
    draws = rng.integers(25, size=(40_000, 25))
    resampled = np.exp(sums[draws].sum(1) / counts[draws].sum(1))
    z0 = stats.norm.ppf((resampled < value).mean())
    jackknife = np.array([np.exp(np.delete(sums, i).sum() / np.delete(counts, i).sum()) for i in range(25)])
    u = jackknife.mean() - jackknife
    a = (u**3).sum() / (6 * (u**2).sum() ** 1.5)
    z = z0 + stats.norm.ppf([0.025, 0.975])
    expected = np.quantile(resampled, stats.norm.cdf(z0 + z / (1 - a * z)))
    found = ratio(sums, counts, then=np.exp)
    assert found.value == pytest.approx(value)
    assert [found.low, found.high] == pytest.approx(expected, abs=0.06 * np.ptp(expected))


def test_intervals_cover_the_truth() -> None:
    """The mean over tokens of all documents is 3, since lengths and means are independent."""
    rng = np.random.default_rng(4)
    intervals = [ratio(*simulated(rng, 40)) for _ in range(1000)]
    covered = np.mean([i.low <= 3 <= i.high for i in intervals])
    assert 0.92 <= covered <= 0.97
    assert np.mean([i.low > 3 for i in intervals]) > 0.005
    assert np.mean([i.high < 3 for i in intervals]) > 0.005


def test_ratio_weighs_tokens_not_documents() -> None:
    assert ratio(np.array([10.0, 0.0]), np.array([10, 90])).value == pytest.approx(0.1)


def test_too_few_documents_have_no_interval_and_tell_nothing() -> None:
    sums, counts = simulated(np.random.default_rng(5), MIN_DOCUMENTS_FOR_CI)
    assert ratio(sums[:-1], counts[:-1])[1:] == (None, None)
    assert ratio(sums, counts).low < ratio(sums, counts).value < ratio(sums, counts).high
    certain = np.full((3, MIN_DOCUMENTS_FOR_CI), 5.0) + np.arange(MIN_DOCUMENTS_FOR_CI) / 100
    assert differs_from_zero(certain).all()
    assert not differs_from_zero(certain[:, 1:]).any()


def test_the_same_numbers_give_the_same_interval() -> None:
    sums, counts = simulated(np.random.default_rng(6), 20)
    assert ratio(sums, counts) == ratio(sums, counts) != ratio(sums, counts, seed=1)


def test_constant_data() -> None:
    """Nothing varies: the interval is the value, and what is not zero is told from it."""
    counts = np.arange(1, 15)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ratio(2.0 * counts, counts) == Interval(2, 2, 2)
        assert ratio(0.0 * counts, counts) == Interval(0, 0, 0)
        significant = differs_from_zero(np.array([np.zeros(14), np.full(14, 0.5), np.zeros(14)]))
    assert significant.tolist() == [False, True, False]
    assert differs_from_zero(np.zeros((0, 14))).tolist() == []


def test_noise_is_hardly_ever_told_from_zero() -> None:
    """Under pure noise any discovery is false: the rate is how often a family has one."""
    rng = np.random.default_rng(7)
    families = [differs_from_zero(rng.normal(size=(30, 24))).any() for _ in range(1000)]
    assert 0.02 < np.mean(families) < 0.07


def test_planted_effects_are_found_and_few_others() -> None:
    """10 of 40 rows are off by 1.5 standard deviations, to either side."""
    rng, found, false = np.random.default_rng(8), [], []
    effect = np.zeros((40, 1))
    effect[:10] = np.where(np.arange(10) % 2, 1.5, -1.5)[:, None]
    for _ in range(300):
        significant = differs_from_zero(effect + rng.normal(size=(40, 24)))
        found.append(significant[:10].mean())
        false.append(significant[10:].sum() / max(1, significant.sum()))
    assert np.mean(found) > 0.99
    assert 0.02 < np.mean(false) < 0.05
