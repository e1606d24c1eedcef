"""A run folder without its model: the table, the sums behind it, the figure, and what is damaged."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from adapters import Ablation, BlockModel, StrataError, load
from analysis.data.batches import Text
from analysis.engine.ablations import single_ablations
from analysis.metrics.spans import SpanStudy
from analysis.metrics.study import ImportanceStudy
from analysis.runs.read_run import read_run, read_runs
from analysis.runs.sweep_run import SweepStudy
from analysis.verbs import sweep
from tests.reference.models import save_reader

SETS = [Ablation(blocks={0, 2}), Ablation(mixers={1}, heads={(0, 1)})]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> BlockModel:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    folder.mkdir()
    save_reader(folder)
    return load(folder, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def text(prose: Path) -> Text:
    return Text(corpus=str(prose), documents=13, window=16)


@pytest.fixture
def swept(model: BlockModel, text: Text, tmp_path: Path) -> tuple[SweepStudy, Path, pd.DataFrame]:
    study = SweepStudy.of(model, [*single_ablations(model.spec, ["blocks", "heads"]), *SETS], text)
    return study, tmp_path / "runs" / "sweep", study.run(tmp_path / "runs" / "sweep")


def test_a_sweep(swept: tuple[SweepStudy, Path, pd.DataFrame]) -> None:
    study, folder, table = swept
    found = read_run(folder)
    pd.testing.assert_frame_equal(found.table, table, check_exact=True)
    assert found.manifest["identity"] == json.loads(json.dumps(study.identity))
    scores = study.scores(folder)
    for metric in ("nll", "kl"):
        each = found.per_document(metric)
        assert list(each.columns) == [str(ablation) for ablation in study.plan.ablations]
        assert list(each.index) == study.documents
        assert np.array_equal(each.to_numpy().T, scores[metric])
    assert np.array_equal(found.tokens, scores["tokens"])
    rises = found.per_document("delta_nll").sum() / found.tokens.sum()
    rows = table[table["metric"] == "delta_nll"].set_index("ablation")["value"]
    assert rises[rows.index].to_numpy() == pytest.approx(rows.to_numpy(), abs=1e-12)
    with pytest.raises(StrataError, match=r"unknown metric of .*valid: delta_nll, kl, nll"):
        found.per_document("ppl")


def test_a_sweep_from_before_there_were_experts(swept: tuple[SweepStudy, Path, pd.DataFrame]) -> None:
    """Its table has no such column; sweeping more writes it as it is now."""
    study, folder, table = swept
    old = (
        pd.read_csv(folder / "summary.csv", dtype=str, keep_default_na=False)
        .drop(columns="expert")
        .to_csv(index=False, lineterminator="\n")
    )
    (folder / "summary.csv").write_text(old)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["table"]["sha256"] = hashlib.sha256(old.encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    pd.testing.assert_frame_equal(read_run(folder).table, table, check_exact=True)
    pd.testing.assert_frame_equal(study.run(folder), table, check_exact=True)
    pd.testing.assert_frame_equal(read_run(folder).table, table, check_exact=True)


def test_importance(model: BlockModel, text: Text, tmp_path: Path) -> None:
    study = ImportanceStudy(model, text, ("bi", "taylor", twice), ("blocks", "heads"))
    table = study.run(tmp_path)
    found = read_run(tmp_path)
    pd.testing.assert_frame_equal(found.table, table, check_exact=True)
    scores = study.scores(tmp_path)
    for metric in ("bi", "taylor", "twice"):
        assert np.array_equal(found.per_document(metric).to_numpy().T, scores[metric])
    assert np.array_equal(found.per_document("twice"), 2 * found.per_document("bi"))
    assert np.array_equal(found.tokens, scores["real"])
    figure = found.plot("twice")
    assert figure.axes[0].get_ylabel() == "twice"
    assert not [line for line in figure.axes[0].lines if str(line.get_label()).endswith(" (0)")]
    plt.close(figure)


def twice(step):
    from analysis.metrics.metrics import block_influence

    return 2 * block_influence(step)


def test_figures(swept: tuple[SweepStudy, Path, pd.DataFrame]) -> None:
    found = read_run(swept[1])
    blocks = found.plot(kinds=["blocks"])
    assert [line.get_label() for line in blocks.axes[0].lines if str(line.get_label()).startswith("unpruned")] == ["unpruned"]
    assert len(found.plot("kl", kinds=["heads"]).axes[0].images) == 1
    everything = found.plot()
    assert [label.get_text() for label in everything.axes[0].get_yticklabels()][-2:] == list(map(str, SETS))
    with pytest.raises(StrataError, match="unknown metric 'pll'"):
        found.plot("pll")
    with pytest.raises(StrataError, match="unknown kind 'ffns'"):
        found.plot(kinds=["ffns"])
    plt.close("all")


def test_a_run_of_more_documents_gives_those_that_were_asked_for(model: BlockModel, prose: Path, tmp_path: Path) -> None:
    many, few = (Text(corpus=str(prose), documents=n, window=16) for n in (6, 3))
    sweep(model, SETS, many, out=tmp_path)
    found = sweep(model, SETS, few, out=tmp_path)
    assert found.table["n_documents"].unique().tolist() == [3]
    assert found.per_document("nll").shape == (3, 3)
    assert read_run(tmp_path).per_document("nll").shape == (6, 3)


def test_runs_together(swept: tuple[SweepStudy, Path, pd.DataFrame], model: BlockModel, text: Text) -> None:
    _, folder, table = swept
    importance = ImportanceStudy(model, text).run(folder.parent / "deeper" / "importance")
    SpanStudy(model, text).run(folder.parent / "spans")
    stopped = folder.parent / "stopped"
    SweepStudy.of(model, [], text).scores(stopped)
    found = read_runs(folder.parent)
    assert found.groupby("run").size().to_dict() == {"sweep": len(table), "deeper/importance": len(importance)}
    assert found["model"].unique().tolist() == [model.spec.name]
    assert read_run(folder.parent / "spans").table["length"].max() == len(model.blocks)
    with pytest.raises(StrataError, match="stopped has no table, for the run was stopped"):
        read_run(stopped)
    with pytest.raises(StrataError, match="there is no finished run in"):
        read_runs(stopped)


def test_damage(swept: tuple[SweepStudy, Path, pd.DataFrame], tmp_path: Path) -> None:
    _, folder, _ = swept
    with pytest.raises(StrataError, match=r"is no run folder: one has a manifest.json"):
        read_run(tmp_path)
    (scores,) = folder.glob("scores/*.jsonl")
    lines = scores.read_text().splitlines()
    scores.write_text("\n".join(line.replace('"nll"', '"nil"') for line in lines))
    with pytest.raises(StrataError, match=r"unknown metric of .* 'nll'"):
        read_run(folder).per_document("nll")
    summary = (folder / "summary.csv").read_text()
    (folder / "summary.csv").write_text(summary.replace("blocks 1", "blocks 2"))
    with pytest.raises(StrataError, match=r"summary.csv is not what the run has written"):
        read_run(folder)
    manifest = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(manifest.replace('"dtype": "float32"', '"dtype": "float64"'))
    with pytest.raises(StrataError, match="its key is not that of its identity"):
        read_run(folder)
