"""Scores in closed form, on a model whose logits are its stream."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from analysis.engine.text_scores import TextScores

VOCAB = 6
IDS = torch.tensor([[5, 1, 2, 0], [3, 3, 0, 0]])
LENGTHS = torch.tensor([4, 2])


def scored(*streams: Tensor, vocab: int = VOCAB, kl: bool = True) -> dict[str, Tensor]:
    model = SimpleNamespace(
        device=torch.device("cpu"), spec=SimpleNamespace(vocab_size=vocab), norm=lambda x: x, unembed=lambda h, tokens: h[..., tokens]
    )
    scores = TextScores(model, IDS, LENGTHS, len(streams), kl=kl)
    scores.add(range(len(streams)), list(streams))
    return scores.sums


def test_uniform_logits_cost_log_v_for_every_token_but_the_first() -> None:
    flat = torch.full((2, 4, VOCAB), 7.0)
    assert scored(flat, kl=False)["nll"].tolist() == [pytest.approx([3 * math.log(6), math.log(6)])]
    assert "kl" not in scored(flat, kl=False)


def test_a_token_is_predicted_from_the_one_before_it() -> None:
    """Nothing else than the next token's logit counts, and nothing behind a document's end."""
    knows = torch.zeros(2, 4, VOCAB)
    for d, t in ((0, 0), (0, 1), (0, 2), (1, 0)):
        knows[d, t, IDS[d, t + 1]] = 50
    knows[1, 1:] = float("nan")
    knows[0, 3] = float("nan")
    assert scored(knows)["nll"].abs().max() < 1e-6
    assert scored(knows)["kl"].abs().max() < 1e-6


def test_divergence_is_from_the_first_stream_to_the_others() -> None:
    """KL(p || uniform) = log V - H(p), KL(uniform || p) is another number."""
    p = torch.tensor([0.5, 0.25, 0.125, 0.0625, 0.03125, 0.03125])
    ours, flat = p.log().expand(2, 4, -1), torch.zeros(2, 4, VOCAB)
    entropy = -sum(q * math.log(q) for q in p.tolist())
    assert scored(ours, flat)["kl"].flatten().tolist() == pytest.approx(
        [0, 0, 3 * (math.log(6) - entropy), math.log(6) - entropy], abs=1e-6
    )
    reverse = -math.log(6) - sum(math.log(q) for q in p.tolist()) / 6
    assert scored(flat, ours)["kl"].flatten().tolist() == pytest.approx([0, 0, 3 * reverse, reverse], abs=1e-6)


def test_many_tokens_of_a_large_vocabulary() -> None:
    """fp32 sums over 49 k logits one after the other would be off by 1e-5."""
    logits = torch.randn(2, 4, 49_152, generator=torch.Generator().manual_seed(0)) * 3
    found = scored(logits, vocab=49_152, kl=False)["nll"][0]
    exact = -logits.double().log_softmax(-1)
    expected = [sum(float(exact[d, t, IDS[d, t + 1]]) for t in range(n - 1)) for d, n in enumerate(LENGTHS.tolist())]
    assert found.tolist() == pytest.approx(expected, abs=3e-6)
