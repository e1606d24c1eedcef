"""Sampling against the probabilities that it is to have, by many numbers and by definition."""

from __future__ import annotations

import pytest
import torch

from adapters import StrataError
from analysis.engine.sampling import Sampling, choose

LOGITS = torch.tensor([0.3, 2.0, -1.0, 1.2, 0.0])


def shares(sampling: Sampling) -> torch.Tensor:
    """How often each token comes, by evenly spaced numbers."""
    n = 20_000
    chosen = choose(LOGITS.expand(n, -1), sampling, [(i + 0.5) / n for i in range(n)])
    return torch.bincount(chosen, minlength=len(LOGITS)) / n


def test_shares_are_the_probabilities() -> None:
    assert torch.allclose(shares(Sampling(1.0)), LOGITS.softmax(0), atol=1e-4)
    assert torch.allclose(shares(Sampling(0.5)), (2 * LOGITS).softmax(0), atol=1e-4)
    assert torch.allclose(shares(Sampling(1.0, top_k=2)), LOGITS.masked_fill(LOGITS < 1, -torch.inf).softmax(0), atol=1e-4)


@pytest.mark.parametrize("top_p", [0.3, 0.6, 0.8, 0.9, 0.999])
def test_top_p_keeps_the_likeliest_tokens_as_transformers_does(top_p: float) -> None:
    from transformers import TopPLogitsWarper

    expected = TopPLogitsWarper(top_p)(None, LOGITS[None])[0].softmax(0)
    assert torch.allclose(shares(Sampling(1.0, top_p)), expected, atol=1e-4)


def test_without_temperature_it_is_the_likeliest() -> None:
    assert choose(LOGITS[None], Sampling(), []).tolist() == [1]


def test_impossible_settings() -> None:
    with pytest.raises(StrataError, match="temperature -1, top_p 1, top_k 0"):
        Sampling(-1)
    with pytest.raises(StrataError, match="top_p above 0"):
        Sampling(1, 0.0)
