"""Agreement of orders: right on planted data, silent on noise and on too few documents."""

import numpy as np
import pytest
from scipy import stats

from analysis.stats.intervals import Interval
from analysis.stats.rank_agreement import (
    Scores,
    agreement,
    chance,
    documents_needed,
    gap,
    reliability,
    removal_order,
    resolution,
    spearman,
    stability,
    tau_b,
)

ITEMS = 12


def scores(truth, documents=40, noise=1.0, seed=0) -> Scores:
    """Documents of 50 to 150 tokens whose means scatter about `truth` by `noise`."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(50, 150, documents)
    return Scores((np.asarray(truth)[:, None] + noise * rng.normal(size=(len(truth), documents))) * tokens, tokens)


@pytest.mark.parametrize("ties", [False, True])
def test_rank_correlations_equal_scipy(ties):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5, ITEMS))
    if ties:
        a, b = a.round(), b.round()
    assert np.allclose(tau_b(a, b), [stats.kendalltau(x, y).statistic for x, y in zip(a, b, strict=True)], atol=1e-12)
    assert np.allclose(spearman(a, b), [stats.spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)], atol=1e-12)
    assert tau_b(np.zeros(5), np.arange(5)) == spearman(np.zeros(5), np.arange(5)) == 0


def test_means_are_ratios_of_sums():
    s = scores(np.arange(ITEMS))
    draw = np.array([[3, 3, 5], [0, 1, 2]])
    assert np.allclose(s.means(draw)[1], s.sums[:, :3].sum(1) / s.tokens[:3].sum())
    assert np.allclose(s.means(draw)[0], (2 * s.sums[:, 3] + s.sums[:, 5]) / (2 * s.tokens[3] + s.tokens[5]))


@pytest.mark.parametrize("statistic", ["kendall", "spearman"])
@pytest.mark.parametrize("paired", [False, True])
def test_agreement_planted(statistic, paired):
    a, b = scores(np.arange(ITEMS), seed=1), scores(np.arange(ITEMS) ** 2, seed=2)
    found = agreement(a, b, statistic, paired=paired)
    assert found.low > 0.85
    assert found.low <= found.value <= found.high
    assert found == agreement(a, b, statistic, paired=paired), "seeded"
    assert agreement(a, scores(-np.arange(ITEMS)), statistic, paired=paired).high < -0.85


def test_agreement_null():
    """Equal items: whatever order comes out is noise, and the intervals say so."""
    found = [agreement(scores(np.zeros(ITEMS), seed=s), scores(np.zeros(ITEMS), seed=s + 999), paired=False) for s in range(100)]
    assert 90 <= sum(i.low <= 0 <= i.high for i in found) <= 99


def test_agreement_too_small():
    a = scores(np.arange(ITEMS), documents=11)
    assert agreement(a, a, paired=True) == Interval(1.0, None, None)
    assert reliability(a) is None
    with pytest.raises(ValueError, match="11 documents: between 12 and the 11"):
        resolution(a, [11])


def test_agreement_of_what_never_varies():
    a = scores(np.arange(ITEMS), noise=0)
    assert agreement(a, a, paired=True) == Interval(1.0, 1.0, 1.0)


def test_mismatches_are_errors():
    a = scores(np.arange(ITEMS))
    with pytest.raises(ValueError, match="different items: 12, 5"):
        agreement(a, scores(np.arange(5)), paired=False)
    with pytest.raises(ValueError, match="different documents: 40, 20"):
        agreement(a, scores(np.arange(ITEMS), documents=20), paired=True)


def test_gap_names_the_better_metric_only_when_there_is_one():
    effect = scores(np.arange(ITEMS), seed=1)
    good, same, bad = (scores(truth, seed=s) for s, truth in ((2, np.arange(ITEMS)), (3, np.arange(ITEMS)), (4, np.zeros(ITEMS))))
    assert gap(good, bad, effect, paired=False).low > 0.3
    equal = gap(good, same, effect, paired=False)
    assert equal.low <= 0 <= equal.high
    assert gap(*(scores(np.arange(ITEMS), documents=5) for _ in range(3)), paired=True) == Interval(0.0, None, None)


@pytest.mark.parametrize(("tau", "n"), [(1.0, 5), (0.4, 8), (-0.4, 8), (0.0, 6), (0.2, 30)])
def test_chance_equals_scipy(tau, n):
    pairs = n * (n - 1) // 2
    order, swaps = list(range(n)), round((1 - tau) / 2 * pairs)
    for _ in range(swaps):  # one inversion more each time
        k = next(k for k in range(n - 1) if order[k] < order[k + 1])
        order[k], order[k + 1] = order[k + 1], order[k]
    exact = stats.kendalltau(range(n), order, method="exact")
    assert chance(exact.statistic, n) == pytest.approx(exact.pvalue, rel=1e-9)


def test_reliability_planted_and_null():
    assert reliability(scores(np.arange(ITEMS))) > 0.95
    assert abs(reliability(scores(np.zeros(ITEMS)))) < 0.25
    weak = scores(0.15 * np.arange(ITEMS), seed=5)
    assert reliability(weak) < reliability(weak, spearman_brown=True)
    r = reliability(weak, "spearman")
    assert reliability(weak, "spearman", spearman_brown=True) == pytest.approx(2 * r / (1 + r))


def test_stability():
    a = np.arange(10.0)
    swapped = a[[9, 1, 2, 3, 4, 5, 6, 7, 8, 0]]  # the least and the most important change places
    (row,) = stability({"en": a, "zh": swapped}, 2).itertuples()
    assert (row.a, row.b, row.overlap, row.chance) == ("en", "zh", 0.5, 0.2)
    assert row.tau == pytest.approx(stats.kendalltau(a, swapped).statistic)
    assert removal_order(np.array([2.0, 1.0, 1.0])) == [1, 2, 0]
    rng = np.random.default_rng(0)
    null = stability({str(seed): rng.normal(size=30) for seed in range(20)}, 6)
    assert len(null) == 190
    assert abs(null["overlap"].mean() - 0.2) < 0.03
    assert abs(null["tau"].mean()) < 0.03
    for k in (0, 11):
        with pytest.raises(ValueError, match=f"k = {k}"):
            stability({"a": a, "b": a}, k)


def test_resolution_planted_and_null():
    curve = resolution(scores(0.5 * np.arange(ITEMS), documents=400), [12, 50, 400])
    assert curve["all"].is_monotonic_increasing
    assert curve["adjacent"].is_monotonic_increasing
    assert (curve["adjacent"] <= curve["all"]).all()
    assert curve["adjacent"].iloc[0] < 0.3
    assert documents_needed(curve) == 400
    assert documents_needed(curve, 0.8, "all") == 50
    null = resolution(scores(np.zeros(ITEMS), documents=100), [12, 50, 100])
    assert (null[["all", "adjacent"]] < 0.03).all(axis=None)
    assert documents_needed(null) is None
    exact = resolution(scores([0, 0, 1], noise=0), [12])
    assert exact["all"].item() == pytest.approx(2 / 3)


def test_resolution_uses_pairing():
    """Documents that are hard for all items hide no difference between them."""
    a = scores(0.2 * np.arange(ITEMS), noise=0.1)
    shared = 10 * np.random.default_rng(1).normal(size=40) * a.tokens
    assert resolution(a._replace(sums=a.sums + shared), [40]).equals(resolution(a, [40]))
