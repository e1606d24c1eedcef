"""What is planned for a card fits into it: models of real sizes as shapes on a pretended one, whose memory is counted."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from adapters import BlockModel, StrataError, load
from analysis.engine.ablations import single_ablations
from analysis.engine.plan import plan
from analysis.engine.row_budget import Prompt, rows_within
from analysis.engine.sweep import documents_per_batch, sweep
from analysis.tasks.likelihoods import batches, likelihoods
from analysis.tasks.requests import Request
from tests.reference.second_device import second_device
from tests.reference.sizes import LLAMA_2_7B, LLAMA_3_1B, llama

GB = 1 << 30
SIZES = {"7B": LLAMA_2_7B, "1B": LLAMA_3_1B}
CARDS = [*(pytest.param("7B", gb, marks=pytest.mark.long) for gb in (80, 24)), ("1B", 80), ("1B", 8)]  # a model and a card, in GB
WINDOW = 512


@pytest.mark.parametrize("kind", ["blocks", pytest.param("heads", marks=pytest.mark.long)])
@pytest.mark.parametrize(("size", "gb"), CARDS)
def test_a_sweep_fits(size: str, gb: int, kind: str) -> None:
    with second_device(free=gb * GB, shapes=True) as card:
        model = llama(SIZES[size], "cuda", torch.bfloat16)
        work = plan(model.spec, single_ablations(model.spec, [kind]))
        documents = documents_per_batch(model, work, WINDOW)
        sums = sweep(model, work, torch.zeros(documents, WINDOW, dtype=torch.long))
        assert sums["kl"].shape == (len(work.ablations), documents)
        assert card.peak <= gb * GB


@pytest.mark.parametrize(("size", "gb"), CARDS)
def test_tasks_fit(size: str, gb: int) -> None:
    """Four options behind each question, and examples that all questions share."""
    with second_device(free=gb * GB, shapes=True) as card:
        model = llama(SIZES[size], "cuda", torch.bfloat16)
        work = plan(model.spec, single_ablations(model.spec, ["blocks"]))
        shared = tuple(range(600))
        documents = [[Request((*shared, *range(n, n + 90)), (option, 7)) for option in range(4)] for n in range(40)]
        part = next(batches(model, work, documents))
        requests = [request for document in documents[part] for request in document]
        assert likelihoods(model, work, requests).nats.shape == (len(work.ablations), len(requests))
        assert card.peak <= gb * GB


@pytest.mark.parametrize(("size", "gb"), CARDS)
def test_texts_are_planned(size: str, gb: int) -> None:
    with second_device(free=gb * GB, shapes=True):
        model = llama(SIZES[size], "cuda", torch.bfloat16)
        together, rows = rows_within(None, model, 33, [Prompt(tuple(range(600)), 128)] * 8, 0)
        assert 1 <= together <= rows


@pytest.mark.parametrize("gb", [8, 16, 24, 80])
@pytest.mark.parametrize("name", ["zoo-llama-0", "zoo-baichuan-0", "zoo-rwkv5-0", "zoo-rwkv7-0"])
def test_tasks_of_small_models_run(name: str, gb: int) -> None:
    requests = [Request((1, 2, 3), (4, n)) for n in range(3)]
    with second_device(free=gb * GB):
        nats = found(load(name, dtype="float32"), requests)
    assert torch.allclose(nats, found(load(name, device="cpu", dtype="float32"), requests), atol=1e-4)


def test_tasks_of_smollm2_run() -> None:
    try:
        here = load("smollm2", device="cpu", dtype="float32")
    except StrataError as error:
        pytest.skip(str(error))
    requests = [Request((1, 2, 3), (4, n)) for n in range(3)]
    with second_device(free=8 * GB) as card:
        nats = found(load("smollm2", dtype="float32"), requests)
        assert card.peak <= 8 * GB
    assert torch.allclose(nats, found(here, requests), atol=1e-4)


def found(model: BlockModel, requests: Sequence[Request]) -> Tensor:
    return likelihoods(model, plan(model.spec, single_ablations(model.spec, ["blocks"])[:3]), requests).nats
