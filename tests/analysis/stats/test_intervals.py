"""Intervals cover what they should, and decisions find planted effects and nothing in noise."""

import warnings

import numpy as np
import pytest
from scipy import stats

from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, Interval, accuracy, differs_by_family, differs_from_zero, p_values, ratio, ratios


def simulated(rng: np.random.Generator, documents: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums over tokens, and their numbers, of documents with skewed means around 3."""
    counts = rng.integers(40, 130, documents)
    means = 2 + rng.gamma(2, 0.5, documents)
    return rng.normal(means * counts, np.sqrt(counts)), counts


def test_few_documents_of_equal_length_have_the_t_interval() -> None:
    x = np.random.default_rng(1).gamma(2, size=30)
    expected = stats.ttest_1samp(x, 0).confidence_interval()
    assert ratio(100 * x, np.full(30, 100)) == pytest.approx((x.mean(), expected.low, expected.high), rel=1e-12)


def test_few_documents_of_unequal_length_by_hand() -> None:
    """The delta method: variance of R = S / C is (var S - 2 R cov + R^2 var C) / (n C^2), with means S and C (Cochran, 1977)."""
    sums, counts = simulated(np.random.default_rng(3), 25)
    (ss, sc), (_, cc) = np.cov(sums, counts)
    r = sums.mean() / counts.mean()
    half = 2.0639 * np.sqrt((ss - 2 * r * sc + r**2 * cc) / 25) / counts.mean()  # t table: 24 degrees of freedom, 0.975
    assert ratio(sums, counts) == pytest.approx((r, r - half, r + half), rel=1e-5)


def test_many_documents_have_the_bca_interval_of_scipy() -> None:
    """The same draws, read at the quantiles that Student's t and the bootstrap's variance, too small by (n - 1) / n, ask for."""
    sums, counts = simulated(np.random.default_rng(3), 80)
    level = 1 - 2 * stats.norm.sf(np.sqrt(80 / 79) * stats.t.ppf(0.975, 79))
    assert level == pytest.approx(0.955, abs=0.001)
    found = stats.bootstrap(
        (sums, counts),
        lambda a, b, axis: a.sum(axis) / b.sum(axis),
        paired=True,
        n_resamples=2000,
        confidence_level=level,
        method="BCa",
        rng=np.random.default_rng(7),
    ).confidence_interval
    assert ratio(sums, counts, seed=7)[1:] == pytest.approx((found.low, found.high), rel=1e-9)


@pytest.mark.parametrize("documents", [25, 80])
def test_the_interval_of_a_function_is_the_function_of_the_interval(documents: int) -> None:
    sums, counts = simulated(np.random.default_rng(3), documents)
    assert ratio(sums, counts, then=np.exp) == pytest.approx(np.exp(ratio(sums, counts)), rel=1e-12)


@pytest.mark.parametrize("documents", [12, 63])
def test_an_interval_leaves_zero_out_where_the_test_says_so(documents: int) -> None:
    rng = np.random.default_rng(documents)
    counts = rng.integers(40, 130, documents)
    sums = (rng.normal(0.3, 1, (300, documents)) + rng.normal(0, 0.3, (300, 1))) * counts
    apart = [not found.low <= 0 <= found.high for found in (ratio(row, counts) for row in sums)]
    assert 30 < sum(apart) < 270
    assert (p_values(sums, counts) < 0.05).tolist() == apart


def test_rows_have_the_intervals_that_each_has() -> None:
    rng = np.random.default_rng(5)
    for documents in (11, 20, 70):
        drawn = [simulated(rng, documents) for _ in range(6)]
        sums, counts = (np.array(part).reshape(2, 3, documents) for part in zip(*drawn, strict=True))
        each = np.array([ratio(*one) for one in drawn], dtype=float)
        assert np.allclose(np.stack(ratios(sums, counts), -1).reshape(6, 3), each, equal_nan=True)


def test_accuracies() -> None:
    """Wilson's interval as scipy has it; of all right answers as well. Differences: Agresti and Min (2005) by hand."""
    for k, n in ((30, 40), (12, 12), (0, 100)):
        expected = stats.binomtest(k, n).proportion_ci(method="wilson")
        assert accuracy(np.repeat([1.0, 0.0], [k, n - k])) == pytest.approx((k / n, *expected), abs=1e-12)
    assert [accuracy(np.zeros(n)).low for n in range(12, 40)] == [0] * 28, "no rounding below an end"
    assert [accuracy(np.ones(n)).high for n in range(12, 40)] == [1] * 28
    dense, right = np.repeat([1.0, 0.0, 1.0], [8, 3, 9]), np.repeat([0.0, 1.0, 1.0], [8, 3, 9])
    centre = (3 - 8) / 22
    half = 1.959964 * np.sqrt((8.5 + 3.5) / 22 - centre**2) / np.sqrt(22)
    assert accuracy(right, dense) == pytest.approx((-0.25, centre - half, centre + half), abs=1e-6)
    same = accuracy(dense, dense)
    assert same.low < same.value == 0 < same.high
    assert accuracy(dense[:11]) == Interval(dense[:11].mean(), None, None)


def test_ratio_weighs_tokens_not_documents() -> None:
    assert ratio(np.array([10.0, 0.0]), np.array([10, 90])).value == pytest.approx(0.1)


def test_too_few_documents_have_no_interval_and_tell_nothing() -> None:
    sums, counts = simulated(np.random.default_rng(5), MIN_DOCUMENTS_FOR_CI)
    assert ratio(sums[:-1], counts[:-1])[1:] == (None, None)
    assert ratio(sums, counts).low < ratio(sums, counts).value < ratio(sums, counts).high
    certain = np.full((3, MIN_DOCUMENTS_FOR_CI), 5.0) + np.arange(MIN_DOCUMENTS_FOR_CI) / 100
    assert differs_from_zero(certain, np.ones(MIN_DOCUMENTS_FOR_CI)).significant.all()
    assert not differs_from_zero(certain[:, 1:], np.ones(MIN_DOCUMENTS_FOR_CI - 1)).significant.any()


def test_the_same_numbers_give_the_same_interval() -> None:
    sums, counts = simulated(np.random.default_rng(6), 70)
    assert ratio(sums, counts) == ratio(sums, counts) != ratio(sums, counts, seed=1)


def test_constant_data() -> None:
    """Nothing varies: the interval is the value, and what is not zero is told from it."""
    counts = np.arange(1, 15)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ratio(2.0 * counts, counts) == Interval(2, 2, 2)
        assert ratio(0.0 * counts, counts) == Interval(0, 0, 0)
        significant = differs_from_zero(np.array([np.zeros(14), np.full(14, 0.5), np.zeros(14)]), np.ones(14)).significant
        assert ratio(2.0 * np.ones(70), np.ones(70)) == Interval(2, 2, 2)
        assert ratio(0.0 * np.ones(70), np.ones(70)) == Interval(0, 0, 0)
    assert significant.tolist() == [False, True, False]
    assert differs_from_zero(np.zeros((0, 14)), counts).significant.tolist() == []


def test_noise_is_hardly_ever_told_from_zero() -> None:
    """Under pure noise any discovery is false: the rate is how often a family has one."""
    rng = np.random.default_rng(7)
    families = [differs_from_zero(rng.normal(size=(30, 24)), np.ones(24)).significant.any() for _ in range(1000)]
    assert 0.02 < np.mean(families) < 0.07


def test_planted_effects_are_found_and_few_others() -> None:
    """10 of 40 rows are off by 1.5 standard deviations, to either side."""
    rng, found, false = np.random.default_rng(8), [], []
    effect = np.zeros((40, 1))
    effect[:10] = np.where(np.arange(10) % 2, 1.5, -1.5)[:, None]
    for _ in range(300):
        significant = differs_from_zero(effect + rng.normal(size=(40, 24)), np.ones(24)).significant
        found.append(significant[:10].mean())
        false.append(significant[10:].sum() / max(1, significant.sum()))
    assert np.mean(found) > 0.99
    assert 0.02 < np.mean(false) < 0.05


def test_p_values_by_family_are_those_of_scipy() -> None:
    """Over equal counts the test is the t-test of a mean; adjusted by hand, each family alone."""
    rows, families = np.random.default_rng(9).normal(0.3, 1, (7, 24)), ["a", "b", "a", "a", "b", "b", "b"]
    found = differs_by_family(families, rows, np.ones(24))
    assert found.p_value == pytest.approx(stats.ttest_1samp(rows, 0, axis=1).pvalue)
    for family in "ab":
        mine = np.array(families) == family
        p = np.sort(found.p_value[mine])
        by_hand = np.minimum.accumulate((p * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1]
        assert np.sort(found.p_adjusted[mine]) == pytest.approx(by_hand)
    assert found.significant.tolist() == (found.p_adjusted <= 0.05).tolist()
    assert found.of(0) == {"p_value": found.p_value[0], "p_adjusted": found.p_adjusted[0], "significant": found.significant[0]}
    assert differs_by_family(families, rows[:, :11], np.ones(11)).of(0) == {"significant": 0}, "not known with too few documents"
