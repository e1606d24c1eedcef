"""Studies of a model whose weights are streamed: the numbers of the resident one, and as many bytes read as the plan says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from adapters import Ablation, BlockModel, StrataError, load
from analysis.data.batches import Batch
from analysis.engine.ablations import single_ablations
from analysis.engine.cost import cost
from analysis.engine.decoding import decode
from analysis.engine.passes import batch_size, visits, weights_read
from analysis.engine.plan import Plan, plan
from analysis.engine.row_budget import Prompt, at_most, row_bytes
from analysis.engine.sweep import call_bytes, room_for, stream_bytes, sweep
from analysis.methods.method import require
from analysis.methods.study import known, skipped
from analysis.methods.table import METHODS
from analysis.metrics.metrics import measure
from analysis.metrics.taylor import taylor
from analysis.removal.greedy import greedy
from analysis.tasks.likelihoods import likelihoods
from analysis.tasks.requests import Request
from tests.reference import variants
from tests.reference.models import save_reader

N, DOCUMENTS, TIME = 6, 12, 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model")
    save_reader(place, num_hidden_layers=N)
    return place


@pytest.fixture(scope="module")
def both(folder: Path) -> tuple[BlockModel, BlockModel]:
    here, there = (load(folder, device="cpu", dtype="float32", weights=weights) for weights in ("resident", "streamed"))
    return here, there


def tokens(documents: int = DOCUMENTS) -> torch.Tensor:
    return torch.randint(0, 256, (documents, TIME), generator=torch.Generator().manual_seed(documents))


def singles(model: BlockModel, *kinds: str) -> Plan:
    return plan(model.spec, single_ablations(model.spec, list(kinds)))


def read_by(model: BlockModel, run) -> tuple[object, int]:
    """What it gives, and the bytes of weights that it reads."""
    assert model.reader is not None
    model.stream(tokens(1))  # else blocks may be there that were asked for before
    before = model.reader.bytes_read
    found = run()
    return found, model.reader.bytes_read - before


def block_bytes(folder: Path) -> int:
    """Of all blocks, by the file itself."""
    with safe_open(folder / "model.safetensors", "pt") as file:
        return sum(file.get_tensor(key).nbytes for key in file.keys() if ".layers." in key)  # noqa: SIM118 - it is no dict


@pytest.mark.parametrize("kl", [True, False])
@pytest.mark.parametrize("kinds", [("blocks",), ("blocks", "mixers", "ffns"), ("heads",)])
def test_all_streams_in_one_pass(kinds: tuple[str, ...], kl: bool, both: tuple, folder: Path) -> None:
    here, there = both
    work = singles(there, *kinds)
    whole = sweep(here, work, tokens(), kl=kl)
    found, read = read_by(there, lambda: sweep(there, work, tokens(), kl=kl))
    assert read == weights_read(there, work, DOCUMENTS, DOCUMENTS, TIME, None, kl) == block_bytes(folder)
    for name, sums in whole.items():
        assert torch.allclose(sums, found[name], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("extra", range(0, 12, 3))
@pytest.mark.parametrize("kl", [True, False])
def test_parts_of_the_tree_that_go_down_one_after_the_other_read_what_is_planned(kl: bool, extra: int, both: tuple, folder: Path) -> None:
    here, there = both
    work = singles(there, "blocks", "mixers")
    memory = (work.minimum + extra) * stream_bytes(there, DOCUMENTS, TIME) + call_bytes(there, work, DOCUMENTS, TIME)
    found, read = read_by(there, lambda: sweep(there, work, tokens(), kl=kl, memory=memory))
    assert read == weights_read(there, work, DOCUMENTS, DOCUMENTS, TIME, memory, kl) > block_bytes(folder)
    for name, sums in sweep(here, work, tokens(), kl=kl).items():
        assert torch.allclose(sums, found[name], rtol=1e-6, atol=1e-5)


def test_three_passes(both: tuple, folder: Path) -> None:
    """With room for all streams of a third of the documents, and for too few of all."""
    _, there = both
    work = singles(there, "blocks")
    third = DOCUMENTS // 3
    memory = work.widest * stream_bytes(there, third, TIME) + call_bytes(there, work, third, TIME)
    ways = {size: weights_read(there, work, DOCUMENTS, size, TIME, memory, True) for size in range(1, DOCUMENTS + 1)}
    size = batch_size(there, work, DOCUMENTS, TIME, memory, True)
    assert ways[size] == min(ways.values())
    assert size == min(n for n in ways if ways[n] == ways[size])
    parts = tokens().split(third)
    _, read = read_by(there, lambda: [sweep(there, work, part, memory=memory) for part in parts])
    assert read == ways[third] == 3 * block_bytes(folder)
    planned = cost(there, work, DOCUMENTS, TIME, memory)
    assert planned.weights_read == ways[size]
    assert planned.passes == pytest.approx(ways[size] / block_bytes(folder))


def test_visits_by_hand() -> None:
    """Two blocks, each taken out alone: with room for all streams each is read once, else the last again for the other half."""
    model = variants.model("rwkv-4")
    work = singles(model, "blocks")
    n = len(model.blocks)
    assert visits(work, work.widest, True) == list(range(n))
    assert visits(work, work.minimum, False)[:2] == [0, 1]
    assert visits(work, work.minimum, True)[:n] == list(range(n))
    assert len(visits(work, work.minimum, True)) > len(visits(work, work.minimum, False)) > n
    out = plan(model.spec, [Ablation(blocks={1})])
    without = Plan(out.spec, out.ablations[1:], out.actions[1:])
    assert visits(without, 8, False) == [0, 2]


@pytest.mark.parametrize("kinds", [["blocks"], ["blocks", "mixers", "ffns", "heads"]])
def test_importance(kinds: list[str], both: tuple, folder: Path) -> None:
    here, there = both
    ids, lengths = tokens(), torch.full((DOCUMENTS,), TIME)
    lengths[3] = 4
    for metric, sums in measure(here, ids, lengths, ("bi", "l2"), kinds=kinds).items():
        found, read = read_by(there, lambda metric=metric: measure(there, ids, lengths, (metric,), kinds=kinds)[metric])
        assert read == block_bytes(folder)
        assert np.allclose(sums, found, rtol=1e-6)
    estimate, read = read_by(there, lambda: taylor(there, ids, lengths, kinds=kinds, signed=True))
    assert block_bytes(folder) < read <= 2 * block_bytes(folder)  # the last block is there already on the way back
    assert np.allclose(estimate, taylor(here, ids, lengths, kinds=kinds, signed=True), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("variant", ["baichuan2-13b", "rwkv-5.2", "rwkv-7"])
def test_taylor_block_by_block_in_other_families(variant: str, tmp_path: Path) -> None:
    source = variants.save(variant, tmp_path)
    here, there = (load(source, device="cpu", dtype="float32", weights=weights) for weights in ("resident", "streamed"))
    ids, lengths = tokens(3), torch.tensor([TIME, 5, 2])
    found, expected = (taylor(model, ids, lengths, kinds=["blocks", "mixers", "ffns"], signed=True) for model in (there, here))
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_tasks_removal_and_texts(both: tuple) -> None:
    here, there = both
    work = singles(there, "blocks", "heads")
    requests = [Request((1, 2, 3, n), (n, 5)) for n in range(4)]
    assert torch.allclose(likelihoods(here, work, requests).nats, likelihoods(there, work, requests).nats, atol=1e-5)
    ids = tokens(3)
    batch = Batch([], ids, torch.full((3,), TIME), np.full(3, TIME - 1), np.ones(3), None)
    parts = single_ablations(there.spec, ["blocks"])
    assert list(greedy(here, [batch], parts, 3)) == list(greedy(there, [batch], parts, 3))
    few = plan(there.spec, [Ablation(blocks={2})])
    prompts = [Prompt(tuple(row.tolist()), 4) for row in ids]

    def texts(model: BlockModel) -> Iterator[object]:
        return ((w.ablation, w.prompt, w.tokens) for w in decode(model, few, prompts))

    assert sorted(texts(here)) == sorted(texts(there))


@pytest.mark.parametrize("rows", [None, 7, 3])
def test_texts_read_no_more_than_is_said(rows: int | None, both: tuple, folder: Path) -> None:
    """As much where all are written at once and none ends early; less where prompts wait for room."""
    _, model = both
    work = singles(model, "blocks")
    prompts = [Prompt((*row.tolist()[:n], 1 + n), 3) for n, row in enumerate(tokens(5), 4)]
    memory = rows and rows * row_bytes(model, prompts)
    found, read = read_by(model, lambda: list(decode(model, work, prompts, memory=memory)))
    passes, held = at_most(model, len(work.ablations), prompts, memory)
    assert {len(written.tokens) for written in found} == {3}
    assert held == min(rows or 35, 35) * row_bytes(model, prompts)
    assert read <= passes * block_bytes(folder)
    assert (read == passes * block_bytes(folder)) == (rows is None), (read / block_bytes(folder), passes)


def test_what_makes_new_weights_is_refused(both: tuple) -> None:
    here, there = both
    assert set(known(here, list(METHODS))) - set(known(there, list(METHODS))) == {
        n for n in known(here, list(METHODS)) if METHODS[n].floats
    }
    assert any("streamed weights" in sentence for sentence in skipped(there, list(METHODS)))
    for method in METHODS.values():
        require(method, here)
        if method.floats:
            with pytest.raises(StrataError, match="give `weights` resident"):
                require(method, there)


def test_room_of_a_streamed_model_is_that_of_a_resident_one(both: tuple) -> None:
    here, there = both
    work = singles(here, "blocks")
    assert room_for(1 << 24, here, work, DOCUMENTS, TIME) == room_for(1 << 24, there, work, DOCUMENTS, TIME)
