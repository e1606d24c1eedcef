"""The regression estimator against loops over documents, and where it has a closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.stats.control_variates import CLIP, clipped, controlled
from analysis.stats.intervals import differs_by_family, differs_from_zero, discoveries_by_family, ratios
from tests.reference import control_variates as reference


def drawn(rng: np.random.Generator, n: int, every: int, k: int, rows: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums of `rows` on the first n documents, tokens of all, and k covariates of each row."""
    tokens = rng.integers(40, 130, every).astype(float)
    covariates = rng.normal(0.2, 1, (rows, k, every)) * tokens
    sums = 0.1 * tokens + covariates.sum(1) + rng.normal(0, 0.5, (rows, every)) * tokens
    return sums[:, :n], tokens, covariates


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize(("n", "every"), [(12, 60), (24, 40), (64, 64)])
def test_as_in_loops_over_documents(n: int, every: int, k: int) -> None:
    sums, tokens, covariates = drawn(np.random.default_rng(n + k), n, every, k)
    found = controlled(sums, tokens, covariates)
    for row in range(len(sums)):
        kept = [reference.clip(g, tokens.tolist(), CLIP) for g in covariates[row].tolist()]
        expected = reference.estimate(sums[row].tolist(), tokens.tolist(), kept)
        assert [column[row] for column in found] == pytest.approx(expected, rel=1e-9)


def test_documents_of_one_length_are_cochrans_regression() -> None:
    """Section 12.7: the mean of the few, and the slope times what the many say; here with an ordinary least-squares fit."""
    sums, _, covariates = drawn(np.random.default_rng(1), 20, 80, 1, rows=1)
    kept = clipped(covariates, np.ones(80))[0, 0]
    slope = stats.linregress(kept[:20], sums[0]).slope
    found = controlled(sums, np.ones(80), covariates)
    assert found.value[0] == pytest.approx(sums.mean() + slope * (kept.mean() - kept[:20].mean()), rel=1e-12)


def test_a_covariate_that_is_the_sum_itself_gives_the_ratio_over_all_documents() -> None:
    rng = np.random.default_rng(2)
    tokens = rng.integers(40, 130, 60).astype(float)
    covariate = rng.uniform(-1, 1, 60) * tokens  # none of them is clipped
    sums = 0.3 * tokens + 2 * covariate
    found = controlled(sums[:12], tokens, covariate[None])
    assert found.value == pytest.approx(sums.sum() / tokens.sum(), rel=1e-12)
    about = sums - sums.sum() / tokens.sum() * tokens
    error = about.std(ddof=1) / np.sqrt(60) / tokens.mean()  # of the ratio over all of them
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 10) * error, rel=1e-9)
    assert found.left == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("covariate", ["zero", "tokens", "outlier"])
def test_a_covariate_that_says_nothing_leaves_the_plain_ratio(covariate: str) -> None:
    """That of an outlier is clipped to what all others have."""
    sums, tokens, _ = drawn(np.random.default_rng(3), 16, 50, 1)
    row = {"zero": np.zeros(50), "tokens": 0.7 * tokens, "outlier": 1e6 * (np.arange(50) == 3)}[covariate]
    found = controlled(sums, tokens, np.broadcast_to(row, (4, 1, 50)))
    value, low, high = ratios(sums, np.broadcast_to(tokens[:16], sums.shape))
    assert found.value == pytest.approx(value, rel=1e-12)
    wider = 16 / 15 * np.sqrt(15 / 16) * stats.t.ppf(0.975, 14) / stats.t.ppf(0.975, 15)  # HC3 and one degree of freedom
    assert found.high - found.low == pytest.approx((high - low) * wider, rel=1e-9)
    assert found.left == pytest.approx(1, rel=1e-12)


def test_a_covariate_given_twice_counts_once() -> None:
    sums, tokens, covariates = drawn(np.random.default_rng(4), 30, 90, 1)
    twice = controlled(sums, tokens, np.repeat(covariates, 2, axis=1))
    assert twice.value == pytest.approx(controlled(sums, tokens, covariates).value, rel=1e-9)


def test_as_many_documents_as_covariates_change_nothing_but_the_variance() -> None:
    sums, tokens, covariates = drawn(np.random.default_rng(5), 40, 40, 1)
    assert controlled(sums, tokens, covariates).value == pytest.approx(sums.sum(-1) / tokens.sum(), rel=1e-12)


def test_units_do_not_matter() -> None:
    sums, tokens, covariates = drawn(np.random.default_rng(6), 20, 60, 2)
    scaled = controlled(1e3 * sums, tokens, covariates * np.array([[1e-12], [1e9]]))
    assert scaled.value == pytest.approx(1e3 * controlled(sums, tokens, covariates).value, rel=1e-9)


def test_too_few_documents_have_no_interval() -> None:
    sums, tokens, covariates = drawn(np.random.default_rng(7), 11, 60, 1)
    found = controlled(sums, tokens, covariates)
    assert np.isfinite(found.value).all()
    assert np.isnan([found.low, found.high, found.p_value]).all()


def test_an_interval_leaves_zero_out_where_the_test_says_so() -> None:
    sums, tokens, covariates = drawn(np.random.default_rng(8), 14, 70, 1, rows=300)
    found = controlled(sums - 0.3 * tokens[:14], tokens, covariates)
    apart = (found.low > 0) | (found.high < 0)
    assert 10 < apart.sum() < 290
    assert ((found.p_value < 0.05) == apart).all()


def test_families_of_tests() -> None:
    rng = np.random.default_rng(9)
    sums, tokens = rng.normal(0.2, 1, (40, 30)), np.ones(30)
    families = ["a", "b"] * 20
    p = np.array([stats.ttest_1samp(row, 0).pvalue for row in sums])
    found, other = discoveries_by_family(families, p), differs_by_family(families, sums, tokens)
    assert found.p_adjusted[::2] == pytest.approx(stats.false_discovery_control(p[::2]), rel=1e-9)
    assert found.p_adjusted == pytest.approx(other.p_adjusted, rel=1e-6)
    assert not discoveries_by_family(families, p * np.nan).significant.any()
    assert len(differs_from_zero(np.array([]), tokens).significant) == 0
