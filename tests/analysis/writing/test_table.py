"""The table of what ablations wrote, against each text by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from adapters import load
from analysis.engine.ablations import single_ablations
from analysis.engine.row_budget import Prompt
from analysis.runs.writing import WritingStudy
from analysis.writing.measures import longest_loop
from analysis.writing.table import TITLES, dense_losses, writing_table
from tests.reference.models import save_reader


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> WritingStudy:
    folder = tmp_path_factory.mktemp("model")
    save_reader(folder)
    model = load(folder, device="cpu")
    prompts = [Prompt((256, 65 + n, 66), 8) for n in range(14)]
    return WritingStudy.of(model, single_ablations(model.spec, ["blocks"]), prompts)


@torch.inference_mode()
def test_losses_are_those_of_the_dense_model(study: WritingStudy, tmp_path: Path) -> None:
    texts = study.texts(tmp_path / "run")
    losses = dense_losses(study, texts, tmp_path / "losses")
    for (a, p), found in np.ndenumerate(losses):
        ids = torch.tensor([[*study.prompts[p].tokens, *texts[a, p]["tokens"]]])
        logp = study.model.run(ids[:, :-1]).double().log_softmax(-1).gather(-1, ids[:, 1:, None])[0, 2:, 0]
        assert found == pytest.approx(float(-logp.sum()), abs=1e-4)
    assert (dense_losses(study, texts, tmp_path / "losses") == losses).all()


def test_the_table_has_every_metric_of_every_ablation(study: WritingStudy, tmp_path: Path) -> None:
    texts = study.texts(tmp_path / "run")
    losses = dense_losses(study, texts, tmp_path / "losses")
    table = writing_table(study, texts, losses, "abc").set_index(["ablation", "metric"])
    for a, ablation in enumerate(study.plan.ablations):
        rows = table.loc[str(ablation)]
        assert set(TITLES) <= set(rows.index)
        tokens = [text["tokens"] for text in texts[a]]
        assert rows.loc["loop", "value"] == pytest.approx(sum(map(longest_loop, tokens)) / sum(map(len, tokens)))
        assert rows.loc["dense_nll", "value"] == pytest.approx(losses[a].sum() / sum(map(len, tokens)))
        if a:
            assert rows.loc["delta_dense_nll", "ci_low"] <= rows.loc["delta_dense_nll", "value"]
            assert rows.loc["significant", "value"] in (0, 1)
    assert table.loc[("dense", "agreement"), "value"] == 1
    assert "delta_loop" not in table.loc["dense"].index
