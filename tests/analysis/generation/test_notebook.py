"""The notebook on generation, run on small models, with benchmarks of either kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.generation.results import Generation
from analysis.generation.study import sizes
from tests.analysis.tasks import written_files
from tests.analysis.test_notebooks_on_variants import folder, run, saved  # noqa: F401  # a fixture


@pytest.mark.parametrize("variant", ["baichuan2-13b", "rwkv-4", "rwkv-7"])
def test_notebook(variant: str, folder: Path, tmp_path: Path) -> None:  # noqa: F811
    source = saved(variant, folder, tmp_path)
    names = run(
        "generation", model=str(source), corpus=str(folder / "text.txt"), documents=12, window=8, device="cpu", out=str(tmp_path / "runs")
    )
    study = names["study"]
    assert isinstance(study, Generation)
    assert study.texts.shape == (len(study.plan.ablations), 12)
    assert len(study.samples()) == 3, "the prompt, unpruned, and without the one block that is half of three"
    assert study.along("agreement")["ci_low"].notna().all()
    assert study.heads.empty, "a short budget does not hold them"
    assert "agree with the unpruned model's text" in study.conclusion


def test_sizes() -> None:
    assert [sizes(n) for n in (2, 3, 12, 30)] == [[1], [1], [1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 6, 8, 9, 12, 15]]


@pytest.mark.long
def test_benchmarks_on_one_axis(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    source = saved("rwkv-7", folder, tmp_path)
    written_files.write(tmp_path / "data")
    options = {"tasks": "coqa_turns", "limit": 12, "data": str(tmp_path / "data"), "documents": 12, "window": 8}
    names = run("generation", model=str(source), corpus=str(folder / "text.txt"), device="cpu", out=str(tmp_path / "runs"), **options)
    study = names["study"]
    assert [task.title for task in study.tasks] == ["coqa_turns, generated"]
    assert set(study.kept["order"]) == {"perplexity", "agreement", "coqa_turns, generated"}
