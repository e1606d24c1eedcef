"""`dtype` mixed in what is written: runs of its own, and checkpoints that are read back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import strata
from adapters import StrataError, load
from analysis.data.batches import Text


def test_a_run_is_of_one_precision(prose: Path, tmp_path: Path) -> None:
    text = Text(corpus=str(prose), documents=6, window=24)
    model = load("zoo-llama-0", device="cpu", dtype="mixed")
    strata.sweep(model, strata.single_ablations(model)[:1], text, out=tmp_path / "run")
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["identity"]["dtype"] == "mixed"
    with pytest.raises(StrataError, match="dtype"):
        strata.sweep(load("zoo-llama-0", device="cpu"), strata.single_ablations(model)[:1], text, out=tmp_path / "run")


@pytest.mark.long
@pytest.mark.parametrize("name", ["zoo-llama-0", "zoo-rwkv7-0"])
def test_a_checkpoint_is_read_back(name: str, prose: Path, tmp_path: Path) -> None:
    text = Text(corpus=str(prose), documents=6, window=24)
    record = strata.prune(load(name, device="cpu", dtype="mixed"), "bi", text, n=1).save(tmp_path / "pruned")
    assert record["computed"]["dtype"] == "mixed"
    assert record["written"]["error"] == "rms"
