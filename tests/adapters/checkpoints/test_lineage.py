"""A pruned model knows which it was pruned from, and its blocks keep their numbers there beside their own."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

import strata
from adapters import load
from adapters.checkpoints.lineage import FILE, Ancestor
from analysis.checkpoints import write
from analysis.runs.tables import COLUMNS, ORIGINAL
from tests.analysis.checkpoints.test_prune import here
from tests.reference.command_line import Strata
from tests.reference.models import save_reader

BLOCKS = 5


@pytest.fixture
def family(tmp_path: Path, prose: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A model, its child without blocks 1 and 3 and a head of block 4, and the child's child without what is block 2 there."""
    monkeypatch.setattr(write, "stock_logits", here)
    folders = [tmp_path / name for name in ("parent", "child", "grandchild")]
    folders[0].mkdir()
    save_reader(folders[0], num_hidden_layers=BLOCKS)
    text = strata.Text(str(prose), window=24, documents=12)
    outs = [strata.Ablation(blocks={1, 3}, heads={(4, 0)}), strata.Ablation(blocks={0})]
    for source, out, folder in zip(folders, outs, folders[1:], strict=False):
        strata.remove(load(source, device="cpu"), out, text).save(folder)
    return folders


def test_numbers_of_blocks_are_those_of_the_first_model(family: list[Path]) -> None:
    parent, child, grandchild = (load(folder, device="cpu") for folder in family)
    assert [model.spec.kept for model in (parent, child, grandchild)] == [(), (0, 2, 4), (2, 4)]
    first = Ancestor("parent", parent.spec.source_hash, 5, (2, 4), "heads 4.0 zero")
    assert grandchild.ancestors == (Ancestor("child", child.spec.source_hash, 3, (1, 2)), first)
    assert child.with_blocks(child.blocks[:2]).spec.kept == ()


def test_a_record_of_other_weights_says_nothing(family: list[Path]) -> None:
    record = json.loads((family[1] / FILE).read_text())
    old = {name: value for name, value in record.items() if name != "ancestors"}
    (family[1] / FILE).write_text(json.dumps(old))  # of a version that named no ancestors
    assert load(family[1], device="cpu").spec.kept == (0, 2, 4)
    for broken in ("{", "[]", json.dumps(record | {"ancestors": [{"name": "x"}]}), json.dumps({"written": record["written"]})):
        (family[1] / FILE).write_text(broken)
        assert load(family[1], device="cpu").spec.kept == ()
    (family[1] / FILE).write_text(json.dumps(record))
    tensors = load_file(family[1] / "model.safetensors")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, family[1] / "model.safetensors", metadata={"format": "pt"})
    assert load(family[1], device="cpu").ancestors == ()


def test_tables_have_both_numbers(strata: Strata, family: list[Path], prose: Path, tmp_path: Path) -> None:
    words = ["--corpus", prose, "--tokens", 12 * 24, "--window", 24, "--device", "cpu"]
    for command in ("sweep", "importance"):
        done = strata(command, family[1], *words, "--kind", "blocks,heads", "--out", tmp_path / "runs" / command)
        assert done.returncode == 0, done.stderr
        assert "original" in done.stdout
        table = pd.read_csv(tmp_path / "runs" / command / "summary.csv")
        assert list(table) == [*COLUMNS, ORIGINAL]
        parts = table.dropna(subset=["block"])
        assert set(zip(parts["block"], parts[ORIGINAL], strict=True)) == {(0, 0), (1, 2), (2, 4)}
    plain = strata("sweep", family[0], *words, "--out", tmp_path / "runs" / "parent")
    assert "original" not in plain.stdout
    assert list(pd.read_csv(tmp_path / "runs" / "parent" / "summary.csv")) == COLUMNS


def test_runs_of_pruned_models_are_read_back(family: list[Path], prose: Path, tmp_path: Path) -> None:
    text = strata.Text(str(prose), window=24, documents=12)
    for folder in family[:2]:
        model = load(folder, device="cpu")
        found = strata.sweep(model, strata.single_ablations(model, "blocks"), text, out=tmp_path / "runs" / folder.name)
        again = strata.read_run(found.folder)
        pd.testing.assert_frame_equal(again.table, found.table)
        assert again.per_document("nll").shape == (12, 1 + len(model.blocks))
    every = strata.read_runs(tmp_path / "runs")
    assert every.groupby("run")[ORIGINAL].count().tolist() == [3 * len(again.table["metric"].unique()) - 3, 0]
