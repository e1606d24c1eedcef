"""What state-space blocks are said to need, against what tensors hold: states are in float32 and many times a stream."""

from __future__ import annotations

import pytest
import torch

from adapters import KEEP, BlockModel
from adapters.contract.tools import cast
from analysis.engine.sweep import graph_bytes, inner_bytes, stream_bytes
from tests.adapters.families.test_jamba import SMALL
from tests.reference.held import Held
from tests.reference.models import pair

MODELS = {
    "mamba": {"state_size": 16, "time_step_rank": 6},
    "mamba2": {"state_size": 32, "num_heads": 4, "head_dim": 24, "n_groups": 1},
    "jamba": SMALL | {"mamba_d_state": 16},
}


@pytest.fixture(params=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return getattr(torch, request.param)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest, dtype: torch.dtype) -> BlockModel:
    return cast(pair(request.param, **MODELS[request.param])[0], dtype)


def ids(documents: int, time: int) -> torch.Tensor:
    return torch.randint(97, (documents, time), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("documents", "time"), [(12, 1), (12, 17), (4, 60), (3, 300), (20, 128)])  # the last two: more than go at once
def test_a_pass(model: BlockModel, documents: int, time: int) -> None:
    """A block on two streams: no more than is said, and not far less."""
    x, ctx = model.begin(ids(documents, time))
    xs = torch.cat([x, x.flip(0)])
    said = inner_bytes(model, 2 * documents * time, time) + 2 * stream_bytes(model, documents, time)
    with torch.inference_mode(), Held() as held:
        model.advance(0, xs, ctx, [(0, KEEP), (1, KEEP)])
    assert said / 4 < held.most <= said


@pytest.mark.parametrize("time", [17, 60, 300])
def test_a_graph(model: BlockModel, time: int) -> None:
    """What is left for gradients of all blocks, which is neither done by groups of rows nor freed."""
    embedded = model.weights["embed"].detach().requires_grad_()
    model.weights = model.weights | {"embed": embedded}
    with torch.inference_mode(False), torch.enable_grad(), Held() as held:
        h = model.stream(ids(1, time))
    assert h.requires_grad
    assert graph_bytes(model, time) / 4 < held.now <= graph_bytes(model, time)
