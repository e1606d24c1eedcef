"""A pattern that was planted is found, and only that; noise has none, nor has noise that the heads of a block share."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.stats.rank_agreement import Scores
from analysis.width import pattern
from analysis.width.sentences import pattern_sentence
from tests.reference.models import spec

N_BLOCKS, N_HEADS, SIZE = 10, 6, 3
BLOCKS, POSITIONS = np.repeat(np.arange(N_BLOCKS), N_HEADS), np.tile(np.arange(N_HEADS) % SIZE, N_BLOCKS)
PLANTED = {"depth": BLOCKS / 5, "block": (BLOCKS * 7 % 10 + BLOCKS % 2) / 5, "position": POSITIONS * 1.0, "none": 0.0 * BLOCKS}


def measured(effects: np.ndarray, *, documents: int = 24, shared: float = 0.0, own: float = 0.5, seed: int = 0) -> Scores:
    """Rises with true `effects`; noise of each head, and noise that the heads of a block share on a document."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(80, 120, documents)
    noise = own * rng.normal(size=(len(effects), documents)) + shared * rng.normal(size=(N_BLOCKS, documents))[BLOCKS]
    return Scores((effects[:, None] + noise) * tokens, tokens)


def found(scores: Scores) -> pd.DataFrame:
    return pattern.patterns(scores, BLOCKS, POSITIONS).set_index(["pattern", "effects"])


def test_shares_equal_a_regression_and_analyses_of_variance() -> None:
    scores = measured(PLANTED["depth"] + 0.3 * PLANTED["position"])
    effects, table = scores.means(scores.all), found(scores)["explained"]
    assert table["depth", "all"] == pytest.approx(stats.linregress(BLOCKS, effects).rvalue ** 2)
    total = ((effects - effects.mean()) ** 2).sum()
    between = sum(N_HEADS * (effects[b == BLOCKS].mean() - effects.mean()) ** 2 for b in range(N_BLOCKS))
    assert table["block", "all"] == pytest.approx(between / total)
    within = effects - np.array([effects[b == BLOCKS].mean() for b in BLOCKS])
    f = stats.f_oneway(*(within[p == POSITIONS] for p in range(SIZE))).statistic
    k, n = SIZE - 1, len(effects) - SIZE
    assert table["position", "all"] == pytest.approx(f * k / (f * k + n))


def test_chance_of_a_deal_is_that_of_the_degrees_of_freedom() -> None:
    table = found(measured(PLANTED["none"]))["chance"]
    n = N_BLOCKS * N_HEADS - 1
    assert table["depth", "all"] == pytest.approx(found(measured(PLANTED["none"]))["explained"]["block", "all"] / (N_BLOCKS - 1), rel=0.1)
    assert table["block", "all"] == pytest.approx((N_BLOCKS - 1) / n, rel=0.1)


@pytest.mark.parametrize("planted", ["depth", "block", "position"])
def test_a_planted_pattern_is_found(planted: str) -> None:
    table = found(measured(PLANTED[planted]))
    assert (table.loc[planted][["p_layout", "p_documents"]] <= 0.05 / 6).all(axis=None)
    said = pattern_sentence(table.reset_index(), n_heads=60, n_documents=24)
    assert {"depth": "Depth", "block": "The block", "position": "The position in the group"}[planted] in said
    if planted != "position":
        assert "the position in the group (" in said.split("Not significant:")[1]
    if planted == "block":
        assert "depth (" in said.split("Not significant:")[1], "blocks that differ make no line"


def test_one_extreme_head_hides_no_pattern() -> None:
    effects = PLANTED["depth"].copy()
    effects[17] = 300
    table = found(measured(effects))
    assert table.loc[("depth", "all"), "p_layout"] > 0.05
    assert table.loc[("depth", "without extremes"), "p_layout"] < 0.001


@pytest.mark.parametrize("shared", [0.0, 2.0])
def test_noise_has_no_pattern(shared: float) -> None:
    """Also when all of it is shared by the heads of a block, which makes blocks differ."""
    tables = [found(measured(PLANTED["none"], shared=shared, seed=seed)).reset_index() for seed in range(15)]
    claims = [pattern_sentence(table, n_heads=60, n_documents=24) for table in tables]
    assert sum("No significant pattern" in said for said in claims) >= 13
    if shared:
        assert np.mean([table["p_layout"].min() < 0.01 for table in tables]) > 0.9, "the layout alone would be deceived"


def test_too_few_documents() -> None:
    table = found(measured(PLANTED["depth"], documents=5)).reset_index()
    assert table["p_documents"].isna().all()
    assert "is not known: too few documents for an interval (5 of at least 12)" in pattern_sentence(table, n_heads=60, n_documents=5)


def test_places() -> None:
    blocks, positions = pattern.places(spec(2, 3))
    assert blocks.tolist() == [0, 0, 0, 1, 1, 1]
    assert positions.tolist() == [0, 1, 2, 0, 1, 2]
    from tests.analysis.engine.test_ablations import grouped

    assert pattern.places(grouped(2, 6, 2))[1].tolist() == [0, 1, 2] * 4
