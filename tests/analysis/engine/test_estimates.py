"""What studies say that they take beside the model, against what the process holds (Linux). Each estimate is above 200 MB."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable

import pytest
import torch

from adapters import BlockModel, load
from analysis.engine.ablations import single_ablations
from analysis.engine.decoding import decode
from analysis.engine.pieces import PIECES
from analysis.engine.plan import plan
from analysis.engine.prompts import Prompts
from analysis.engine.row_budget import Prompt, row_bytes, rows_within
from analysis.engine.sweep import call_bytes, graph_bytes, stream_bytes, sweep
from analysis.engine.text_scores import score_bytes
from analysis.engine.tree import Tree
from analysis.metrics import taylor
from analysis.tasks.likelihoods import likelihoods
from analysis.tasks.requests import Request
from tests.benchmarks.timing import peak_of, resident
from tests.reference.models import pair, save_reader

pytestmark = [pytest.mark.long, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]
WIDTH = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 8}
SCANS = {
    "mamba": {"intermediate_size": 512, "time_step_rank": 16},
    "mamba2": {"num_heads": 8, "head_dim": 64, "n_groups": 1, "state_size": 64},
    "jamba": {"attn_layer_period": 3, "attn_layer_offset": 1, "num_experts": 4, "num_experts_per_tok": 2},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> BlockModel:
    folder = tmp_path_factory.mktemp("model")
    save_reader(folder, **WIDTH | {"max_position_embeddings": 256})
    return load(folder, device="cpu", dtype="float32", weights="resident")


def require_near(estimate: int, run: Callable[[], object]) -> None:
    """Not more than twice what is used, and not less than most of it."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before would be used again unseen
    before = resident()
    used = peak_of(run) - before
    assert estimate > 200 << 20
    assert estimate / 2 < used < 1.5 * estimate, f"{estimate >> 20} MB were said, {used >> 20} MB are used"


def random(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0))


def test_sweep(model: BlockModel) -> None:
    work, ids = plan(model.spec, single_ablations(model.spec, ["blocks"])), random(128, 128)
    said = call_bytes(model, work, *ids.shape) + work.widest * stream_bytes(model, *ids.shape)
    require_near(said, lambda: sweep(model, work, ids))


@pytest.mark.parametrize("name", SCANS)
def test_gradients_through_scans(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = pair(name, **{"num_hidden_layers": 6, "hidden_size": 256, "vocab_size": 257} | SCANS[name])[0], random(4, 256)
    monkeypatch.setattr(taylor, "GRAPH_BYTES", 1 << 40)  # all of them at once
    lengths = torch.full((len(ids),), ids.shape[1])
    require_near(len(ids) * graph_bytes(model, ids.shape[1]), lambda: taylor.taylor(model, ids, lengths, kinds=["blocks"]))


def test_tasks(model: BlockModel) -> None:
    work, tree = plan(model.spec, single_ablations(model.spec, ["blocks"])), Tree()
    requests = [Request(tuple(row), (option, 7)) for row in random(130, 120).tolist() for option in range(4)]
    for request in requests:
        tree.add(request.inputs(model.spec.max_len))
    call = Prompts(model, tree, work.branches).call_bytes(len(work.ablations)) + score_bytes(model, 2 * len(requests), PIECES["cpu"])
    said = call + work.widest * stream_bytes(model, 1, len(tree))
    require_near(said, lambda: likelihoods(model, work, requests))


def test_generation(model: BlockModel) -> None:
    work = plan(model.spec, single_ablations(model.spec, ["blocks"]))
    prompts = [Prompt(tuple(row), 6) for row in random(27, 110).tolist()]
    _, rows = rows_within(None, model, len(work.ablations), prompts, 0)
    said = min(rows, len(prompts) * len(work.ablations)) * row_bytes(model, prompts)
    require_near(said, lambda: list(decode(model, work, prompts)))
