"""Every family on a pretended card: nothing is left on the CPU by mistake, and numbers are the same."""

from __future__ import annotations

import tempfile
from functools import cache
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import torch

from adapters import Ablation, BlockModel, load, registry
from adapters.checkpoints.export import remove_blocks
from adapters.families.rwkv.tokenizers import ByteTokenizer
from analysis.control.covariates import SIZED, sizes
from analysis.data.batches import Batch
from analysis.engine.ablations import single_ablations
from analysis.engine.decoding import Prompt, decode
from analysis.engine.mean_ablation import part_means, with_means
from analysis.engine.plan import plan
from analysis.engine.sweep import sweep
from analysis.metrics.metrics import METRICS, measure
from analysis.metrics.taylor import taylor
from analysis.removal.greedy import greedy
from analysis.tasks.likelihoods import likelihoods
from analysis.tasks.requests import Request
from tests.reference.families import FAMILIES, kinds, model_type, save
from tests.reference.second_device import second_device

LENGTHS = torch.tensor([19, 11])
GB = 1 << 30
FREE = (8, 16, 24, 80)  # GB of a card, which decide how much is worked on at once; families take turns
FREE_STREAMED = (1, 8)


def read(model: BlockModel) -> torch.Tensor:
    return torch.randint(model.spec.vocab_size, (2, 19), generator=torch.Generator().manual_seed(5))


def swept(model: BlockModel) -> dict[str, torch.Tensor]:
    return sweep(model, plan(model.spec, single_ablations(model.spec, kinds(model.spec))), read(model), LENGTHS)


def numbers(model: BlockModel, folder: Path) -> dict[str, np.ndarray]:
    """What studies say of a model, wherever it is."""
    parts = kinds(model.spec)
    ids, sums = read(model), swept(model)
    batch = Batch([], ids, LENGTHS, (LENGTHS - 1).numpy(), LENGTHS.numpy())
    every = plan(model.spec, single_ablations(model.spec, parts))
    means = with_means(model, part_means(model, [batch]))
    left = plan(model.spec, single_ablations(model.spec, ["blocks"], ["mean"]))
    requests = [Request(tuple(ids[0, :n].tolist()), tuple(ids[1, :2].tolist())) for n in (3, 3, 7)]
    path = greedy(model, [batch], single_ablations(model.spec, ["blocks"]), 2)
    model.tokenizer, model.end_tokens = ByteTokenizer(), ()
    few = plan(model.spec, [Ablation(blocks={1})])
    written = sorted(decode(model, few, [Prompt(tuple(ids[d, :n].tolist()), 4) for d, n in enumerate((9, 5))]))
    found = {
        "nll": sums["nll"],
        "kl": sums["kl"],
        "means": sweep(means, left, ids, LENGTHS, kl=False)["nll"],
        "likelihoods": likelihoods(model, every, requests).nats,
        "taylor": torch.from_numpy(taylor(model, ids, LENGTHS, kinds=parts)),
        "sizes": torch.from_numpy(sizes(model, single_ablations(model.spec, [kind for kind in SIZED if kind in parts]), batch)),
        "greedy": torch.tensor([sorted(step.blocks) for step in path[1:2]]),
        "texts": torch.tensor([w.tokens for w in written]),
        "pruned": remove_blocks(model, [1]).run(ids.to(model.device)).cpu(),
    }
    measured = measure(model, ids, LENGTHS, METRICS.own, kinds=parts)
    return {name: t.numpy() for name, t in found.items()} | measured


@cache
def on_cpu(name: str) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        return numbers(load(save(name, Path(folder)), device="cpu", dtype="float32"), Path(folder))


def test_no_model_type_is_left_out() -> None:
    """rwkv7_fla is another name of rwkv7."""
    known = {name for family in registry.FAMILIES.own.values() for name in family.model_types}
    assert {model_type(name) for name in FAMILIES} == known - {"rwkv7_fla"}


@pytest.mark.parametrize(("name", "gb"), zip(FAMILIES, cycle(FREE), strict=False))
def test_a_family_gives_the_same_numbers_on_a_card(name: str, gb: int, tmp_path: Path) -> None:
    path = save(name, tmp_path)
    with second_device(free=gb * GB) as card:
        model = load(path, dtype="float32")
        assert model.device == torch.device("cuda", 0)
        found = numbers(model, tmp_path)
        assert 0 < card.peak < GB
        del model
    assert_same(found, name)


@pytest.mark.parametrize(("name", "gb"), zip(FAMILIES, cycle(FREE_STREAMED), strict=False))
def test_weights_that_are_streamed_to_a_card_give_the_same_sums(name: str, gb: int, tmp_path: Path) -> None:
    path = save(name, tmp_path)
    with second_device(free=gb * GB) as card:
        model = load(path, dtype="float32", weights="streamed")
        assert model.device == torch.device("cuda", 0)
        assert model.reader is not None
        found = {what: sums.numpy() for what, sums in swept(model).items()}
        assert 0 < card.peak < GB
        del model
    assert_same(found, name)


def assert_same(found: dict[str, np.ndarray], name: str) -> None:
    """As on a CPU, where weights are resident."""
    expected = on_cpu(name)
    for what, values in found.items():
        assert np.abs(values - expected[what]).max() <= 2e-5 * np.abs(expected[what]).max(), what
