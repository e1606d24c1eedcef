"""Experts as the notebooks on width and on depth against width show them, against loops over transformers' Mixtral."""

from __future__ import annotations

import copy
from collections.abc import Collection

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor
from transformers import PreTrainedModel

from adapters import Ablation, BlockModel, load
from analysis.data.batches import Text, batches
from analysis.depth_vs_width.study import depth_width
from analysis.display.format import hundredths
from analysis.runs.budgets import Budget
from analysis.runs.settings import RunConfig
from analysis.width.experts import TITLES, experts
from tests.reference.experts import chosen_experts, ffn_of, without_experts
from tests.reference.models import save_reader

BLOCKS, EXPERTS, DOCUMENTS = 2, 5, 12
EACH = [(i, e) for i in range(BLOCKS) for e in range(EXPERTS)]
Both = tuple[BlockModel, PreTrainedModel]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    folder = tmp_path_factory.mktemp("sparse")
    reference = save_reader(folder, model_type="mixtral", num_local_experts=EXPERTS, num_hidden_layers=BLOCKS)
    reference.set_experts_implementation("eager")
    return load(folder, device="cpu", dtype="float32"), reference


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    place = tmp_path_factory.mktemp("experts")
    (place / "text.txt").write_text("".join(f"Line {i}: {i} times {i} is {i * i}, café 天 {i % 7}.\n" for i in range(4500)))
    return RunConfig(Budget(32, 14, None), place / "runs", str(place / "text.txt"), documents=DOCUMENTS)


def rows(model: BlockModel, text: Text) -> list[Tensor]:
    return [b.ids[i : i + 1, : int(n)] for b in batches(text.windows(model), model) for i, n in enumerate(b.lengths)]


@torch.no_grad()
def nll(reference: PreTrainedModel, ids: list[Tensor], out: Collection[tuple[int, int]] = ()) -> np.ndarray:
    """Of each document, with the logits of some experts at -inf."""
    model = copy.deepcopy(reference)
    for i in {i for i, _ in out}:
        without_experts(ffn_of(model.model.layers[i]), [e for block, e in out if block == i])
    logits = [model(row, use_cache=False).logits[0, :-1].double().log_softmax(-1) for row in ids]
    return np.array([-float(one.gather(-1, row[0, 1:, None]).sum()) for one, row in zip(logits, ids, strict=True)])


def test_effects_loads_and_agreements(both: Both, config: RunConfig) -> None:
    model, reference = both
    calibration = config.text(DOCUMENTS).calibration(model)
    study = experts(model, config, calibration)
    assert study is not None
    assert study.described == "10 experts, of which a token meets 2 in a block"
    held_out = rows(model, study.text)
    dense, tokens = nll(reference, held_out), sum(row.shape[1] - 1 for row in held_out)
    rises = np.array([(nll(reference, held_out, [part]) - dense).sum() / tokens for part in EACH])
    assert study.effects[["block", "expert"]].to_numpy().tolist() == [list(part) for part in EACH]
    assert np.allclose(study.effects["value"], rises, atol=1e-5)
    read = rows(model, calibration)
    counts = np.zeros((BLOCKS, EXPERTS))
    for row in read:
        for i, chosen in enumerate(chosen_experts(reference, row)):
            counts[i] += np.bincount(chosen.flatten().numpy(), minlength=EXPERTS)
    loads = counts.flatten() / sum(row.shape[1] for row in read)
    assert np.allclose(study.loads["value"], loads, rtol=1e-9)
    assert np.allclose(study.loads["value"].to_numpy().reshape(BLOCKS, EXPERTS).sum(1), 2)
    said = dict(study.agreements.to_numpy().tolist())
    assert list(said) == list(TITLES.values())
    assert said[TITLES["load"]].startswith(hundredths(spearmanr(loads, rises).statistic))
    assert "single expert" in study.found


def test_depth_against_width_removes_experts_by_what_each_costs(both: Both, config: RunConfig) -> None:
    """In the order of calibration text; losses are those of Mixtral without the same experts, savings are counted by hand."""
    model, reference = both
    study = depth_width(model, config)
    assert list(study.kinds) == ["blocks", "mixers", "ffns", "heads", "experts"]
    read = rows(model, study.calibration)
    dense = nll(reference, read)
    harm = [(nll(reference, read, [part]) - dense).sum() for part in EACH]
    order = [EACH[i] for i in np.argsort(harm, kind="stable")]
    assert study.ordered["experts"] == [Ablation(experts={part}) for part in order]
    held_out, spec = rows(model, study.text), model.spec
    path, shares = study.scored.paths["experts"], study.curves["experts"].shares
    assert len(path) > 3
    one = 3 * 80 * 48 + 48  # its matrices, and its row of the router
    for n, out in enumerate(path):
        assert out.experts == {*order[:n]}
        assert np.allclose(study.scored.nll[out], nll(reference, held_out, out.experts), rtol=1e-6)
        assert shares["block parameters"][n] == pytest.approx(n * one / spec.block_params)
        met = sum(
            48 + 3 * 80 * 48 * (place > EXPERTS - 2) for i in range(BLOCKS) for place in range(1, 1 + sum(b == i for b, _ in order[:n]))
        )
        assert shares["active parameters"][n] == pytest.approx(met / spec.active_params)
        assert shares["FLOPs"][n] == pytest.approx(2 * met / spec.flops_per_token)
    assert "experts" in study.conclusion
