"""`strata compare`: one notebook over all models, as PDF and HTML."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from adapters import StrataError
from reports.report import compare

OPTIONS = {"seed": 0, "device": "cpu", "dtype": "float32"}


@pytest.mark.long
def test_two_models_make_a_pdf_and_a_page(tiny_folder: Path, prose: Path, tmp_path: Path) -> None:
    twin = shutil.copytree(tiny_folder, tmp_path / "tiny-twin")
    pdf, html = compare([str(tiny_folder), str(twin)], "quick", tmp_path / "out", corpus=str(prose), documents=3, **OPTIONS)
    assert pdf.read_bytes().startswith(b"%PDF")
    page = html.read_text()
    for shown in (
        "tiny-llama and tiny-twin compared",
        "Comparison: is one model as redundant as another?",
        "strata compare",
        "Not trained alike",
    ):
        assert shown in page


@pytest.mark.parametrize("models", [["tiny"], ["tiny", "tiny"]])
def test_one_model_is_refused_before_anything_is_written(models: list[str], tiny_folder: Path, prose: Path, tmp_path: Path) -> None:
    with pytest.raises(StrataError, match=r"is no comparison|named twice"):
        compare([str(tiny_folder) for _ in models], "quick", tmp_path / "out", corpus=str(prose), **OPTIONS)
    assert not (tmp_path / "out").exists()
