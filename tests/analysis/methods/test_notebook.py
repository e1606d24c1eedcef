"""The notebook on methods, on every family, and with benchmarks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis.methods.study import Methods
from analysis.methods.table import METHODS
from tests.analysis.test_notebooks_on_variants import folder, run, saved  # noqa: F401  # a fixture


def notebook(source: Path, folder: Path, tmp_path: Path, **more: object) -> Methods:  # noqa: F811
    given = {"corpus": str(folder / "text.txt"), "documents": 12, "window": 32, "device": "cpu", "out": str(tmp_path / "runs")}
    study = run("methods", model=str(source), **given, **more)["study"]
    assert isinstance(study, Methods)
    return study


@pytest.mark.parametrize("variant", ["baichuan2-13b", "rwkv-7"])
def test_families(variant: str, folder: Path, tmp_path: Path) -> None:  # noqa: F811
    study = notebook(saved(variant, folder, tmp_path), folder, tmp_path)
    assert set(study.titles) >= {"shortgpt", "one_shot", "linear"}
    assert ("slicegpt" in {p.method for p in study.points}) == (variant != "rwkv-7")
    assert study.table["ci_low"].notna().all()
    assert len(study.conclusion) > 50


def test_benchmarks(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    """Accuracies of every method, their mean and the share that is retained."""
    data = tmp_path / "data" / "arc"
    data.mkdir(parents=True)
    rows = [
        {
            "id": str(i),
            "question": {"stem": f"{i} times {i} is", "choices": [{"text": str(i * i + k), "label": "ABCD"[k]} for k in range(4)]},
            "answerKey": "ABCD"[i % 4],
        }
        for i in range(14)
    ]
    (data / "arc_easy.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = saved("baichuan2-13b", folder, tmp_path)
    study = notebook(source, folder, tmp_path, tasks="arc_easy", data=str(tmp_path / "data"), limit=14)
    table = study.scores.table
    assert list(table.columns) == ["method", "removed", "arc\\_easy", "mean", "retained"]
    assert len(table) == 1 + len(study.reached)
    assert "(" in table["mean"][0]
    assert "(" in table["arc\\_easy"][0], "each task has its interval"
    assert set(study.scores.accuracies["chance"]) == {0.25}
    assert set(table["method"][1:]) <= {method.title for method in METHODS.values()}
