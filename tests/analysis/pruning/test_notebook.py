"""The notebook on removal, run on other families than Llama."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters import load
from analysis.pruning.results import RemovalResult
from tests.analysis.test_notebooks_on_variants import folder, run, saved  # noqa: F401  # a fixture
from tests.reference.variants import BLOCKS


@pytest.mark.parametrize("variant", ["baichuan2-13b", "rwkv-4", "rwkv-7"])
def test_notebook(variant: str, folder: Path, tmp_path: Path) -> None:  # noqa: F811
    source = saved(variant, folder, tmp_path)
    names = run("pruning", model=str(source), corpus=str(folder / "text.txt"), documents=12, device="cpu", out=str(tmp_path / "runs"))
    study = names["study"]
    assert isinstance(study, RemovalResult)
    assert study.model.spec == load(source, device="cpu").spec
    assert len(study.table["order"].unique()) == len(study.whole)
    assert study.table["removed"].max() == BLOCKS - 0.5
    assert study.table["ci_low"].notna().all()
