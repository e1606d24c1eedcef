"""What `strata generate --out` measures: the texts and their losses, on one machine as in shards."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from adapters import Ablation, load
from adapters.registry import load_shapes
from analysis.data.batches import Text
from analysis.runs.scoring import map_documents
from analysis.runs.shards import OnShard, Shard, merge
from analysis.runs.writing import WRITTEN
from analysis.writing.study import BeginningsStudy
from tests.reference.models import save_reader


@torch.inference_mode()
def test_losses_are_those_of_the_texts(prose: Path, tmp_path: Path) -> None:
    """Under the model as a whole, and of shards as of one run; what merges them has no weights."""
    (tmp_path / "model").mkdir()
    save_reader(tmp_path / "model")
    model, ablations = load(tmp_path / "model", device="cpu", dtype="float32"), [Ablation(blocks={1}), Ablation(blocks={0, 2})]
    options = {"ablations": ablations, "text": Text(corpus=str(prose), documents=13, window=8), "most": 6}
    study = BeginningsStudy.of(model, **options)
    table = study.run(tmp_path / "one")
    texts = study.writing.texts(tmp_path / "one")
    rows = table.set_index(["ablation", "metric"])
    losses = []
    for ablation, row in zip(study.plan.ablations, texts, strict=True):
        whole = [torch.tensor([[*prompt.tokens, *text["tokens"]]]) for prompt, text in zip(study.prompts, row, strict=True)]
        logp = [model.run(ids[:, :-1]).double().log_softmax(-1).gather(-1, ids[:, 1:, None])[0, :, 0] for ids in whole]
        losses.append([-float(each[-len(text["tokens"]) :].sum()) for each, text in zip(logp, row, strict=True)])
        n = sum(len(text["tokens"]) for text in row)
        assert rows.loc[(str(ablation), "dense_nll"), "value"] == pytest.approx(sum(losses[-1]) / n, rel=1e-5)
    of_one = [[loss / len(text["tokens"]) for loss, text in zip(*each, strict=True)] for each in zip(losses, texts, strict=True)]
    delta = rows.loc[(str(ablations[0]), "delta_dense_nll")]
    assert delta["value"] == pytest.approx(sum(a - b for a, b in zip(of_one[1], of_one[0], strict=True)) / 13, rel=1e-5)
    assert delta["ci_low"] < delta["value"] < delta["ci_high"]
    for index in range(2):
        map_documents(study.open(tmp_path / "two"), study.scoring(), OnShard(Shard(index, 2), ["generate"]))
    shapes = load_shapes(tmp_path / "model", of="cpu", dtype="float32")
    merged, _ = merge(BeginningsStudy.of(shapes, **options), tmp_path / "two")
    pd.testing.assert_frame_equal(merged, table)


def test_texts_without_losses_go_on(prose: Path, tmp_path: Path) -> None:
    """A folder in which another study has written the same texts."""
    (tmp_path / "model").mkdir()
    save_reader(tmp_path / "model")
    text = Text(corpus=str(prose), documents=12, window=8)
    study = BeginningsStudy.of(load(tmp_path / "model", device="cpu"), [Ablation(blocks={1})], text, 5)
    before = study.writing.texts(tmp_path / "run")
    assert set(study.open(tmp_path / "run").records().records[0].scores) == {WRITTEN}
    table = study.run(tmp_path / "run")
    assert {"dense_nll", "delta_dense_nll"} <= set(table["metric"])
    assert (study.writing.texts(tmp_path / "run") == before).all()
