"""Statistics over seeds against scipy's own tests, by hand, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.stats import permutation_test

from analysis.stats.seeds import difference, over_seeds

A, B = (3.1, 2.8, 3.0, 3.4), (10.2, 10.4, 9.9, 10.3)


@pytest.mark.parametrize(("a", "b"), [(A, B), (A[:3], B[:3]), (A, B[:3]), ((1.0, 2.0, 4.0), (2.0, 3.0, 3.5))])
def test_as_scipy_has_it(a: tuple[float, ...], b: tuple[float, ...]) -> None:
    found, welch = difference(a, b), stats.ttest_ind(a, b, equal_var=False)
    assert found.p == pytest.approx(welch.pvalue)
    assert found.interval[1:] == pytest.approx(tuple(welch.confidence_interval(0.95)))
    one = stats.ttest_1samp(a, 0).confidence_interval(0.95)
    assert over_seeds(a)[1:] == pytest.approx(tuple(one))


def test_the_permutation_test_is_exact_and_says_what_it_can_reach() -> None:
    def means(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.abs(x.mean(axis) - y.mean(axis))

    for a, b in ((A, B), ((1.0, 2.0, 4.0), (2.0, 3.0, 3.5))):
        exact = permutation_test((a, b), means, vectorized=True, n_resamples=np.inf, alternative="greater")
        assert difference(a, b).exact == pytest.approx(exact.pvalue)
    assert difference(A[:3], B[:3]).exact == difference(A[:3], B[:3]).least == pytest.approx(0.1), "2 of 20"
    assert difference(A, B).least == pytest.approx(2 / 70)
    assert difference(A, B[:3]).least == difference(A, B[:3]).exact == pytest.approx(1 / 35)


def test_too_few_seeds_and_missing_values_are_not_known() -> None:
    for a, b in ((A[:2], B), (A, B[:1]), ((np.nan, *A), B)):
        found = difference(a, b)
        assert not found.known
        assert found.p == found.exact == 1
    assert over_seeds(A[:2]) == (pytest.approx(2.95), None, None)


def test_seeds_that_are_all_alike() -> None:
    apart, same = difference((0.1,) * 3, (0.3,) * 3), difference((0.1,) * 3, (0.1,) * 3)
    assert (apart.p, apart.interval.low, apart.known) == (apart.exact, None, True), "they say nothing of how much seeds vary"
    assert over_seeds((0.1,) * 3) == (pytest.approx(0.1), None, None)
    assert (same.p, same.exact) == (1, 1)
    rounded = difference((0.1,) * 3, (0.1 + 1e-17, 0.1, 0.1 - 2e-17))
    assert (rounded.p, rounded.exact) == (1, 1)


@pytest.mark.parametrize("sizes", [(3, 3), (4, 4), (4, 3)])
def test_seeds_of_one_architecture_differ_at_the_stated_rate_and_planted_ones_always(sizes: tuple[int, int]) -> None:
    rng, n = np.random.default_rng(sizes), 1000
    a, b = (rng.normal(10, 0.5, (n, size)) for size in sizes)
    null = np.array([difference(x, y).p for x, y in zip(a, b, strict=True)])
    assert 0.02 <= (null <= 0.05).mean() <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / n)
    assert np.mean([difference(x, y - 5).p <= 0.05 for x, y in zip(a, b, strict=True)]) > 0.99
