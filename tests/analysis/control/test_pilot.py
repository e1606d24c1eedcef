"""How much a pilot asks for, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from adapters import Ablation
from analysis.control.pilot import SAMPLED, enough, gain, judged, price, sampled
from analysis.engine.ablations import single_ablations
from analysis.engine.plan import plan
from analysis.stats.control_variates import controlled
from tests.reference.models import spec


def test_documents_by_cost() -> None:
    """No other number of documents gives a lower variance for the same cost, but for the border that was simulated."""
    assert enough(0.5, 0.04, 100) == 500
    assert enough(0.2, 0.01, 50) == 1000
    assert enough(0.2, 0.01, 12) == 60, "five times as many below 24"
    assert enough(0.9, 0.5, 30) == 30
    assert (enough(0.0, 0.1, 24), enough(1.0, 0.1, 24), enough(1.7, 0.1, 24)) == (480, 24, 24)
    best = enough(0.1, 0.02, 1000)
    others = [gain(0.1, 0.02, 1000, documents) for documents in range(1000, 20001, 50)]
    assert gain(0.1, 0.02, 1000, best) >= max(others)


def test_gain_by_hand() -> None:
    """A tenth of the variance is left, and gradients on five documents cost what sweeping one does."""
    assert gain(0.1, 0.2, 10, 50) == pytest.approx(1 / ((0.1 + 0.9 / 5) * 2))


def test_the_price_of_gradients() -> None:
    of = spec(12)
    heads, blocks = (price(plan(of, single_ablations(of, [kind]))) for kind in ("heads", "blocks"))
    assert 0 < heads < blocks < 1


def test_parts_of_a_pilot() -> None:
    of = spec(12)
    blocks, heads = (single_ablations(of, [kind]) for kind in ("blocks", "heads"))
    found = sampled(of, [*blocks, *heads, Ablation(blocks={1, 2})])
    assert len(found) == 2 * SAMPLED + 1
    assert {blocks[0], blocks[-1], heads[0], heads[-1], Ablation(blocks={1, 2})} <= set(found)
    assert sampled(of, blocks[:3]) == blocks[2::-1], "all of few, in another order than a sweep's"


def test_what_gradients_are_not_used_for() -> None:
    rng = np.random.default_rng(0)
    tokens = np.full(12, 20.0)
    along, other = rng.normal(size=(2, 12))
    outlier = along + 0.1 * other + 30 * (np.arange(12) == 5)
    sums = np.stack([along + 0.1 * other, other, outlier, np.zeros(12)])
    found = controlled(sums, tokens, np.broadcast_to(along, (4, 1, 12)))
    kinds = judged(found, {"heads": [0], "blocks": [1], "ffns": [2], "mixers": [3]})
    assert kinds["heads"].plain == ""
    assert kinds["heads"].left < 0.1
    assert "do not go with" in kinds["blocks"].plain
    assert "MADs, beyond 8" in kinds["ffns"].plain
    assert "do not go with" in kinds["mixers"].plain, "no part of them has an effect"
