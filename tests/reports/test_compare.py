"""`strata compare`: one notebook over all models, as PDF and HTML."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reports.report import make
from reports.request import ReportRequest


@pytest.mark.long
def test_two_models_make_a_pdf_and_a_page(tiny_folder: Path, prose: Path, tmp_path: Path) -> None:
    twin = shutil.copytree(tiny_folder, tmp_path / "tiny-twin")
    options = {"corpus": str(prose), "documents": 3, "seed": 0, "device": "cpu", "dtype": "float32"}
    pdf, html = make(ReportRequest.of([], [str(tiny_folder), str(twin)], "quick", tmp_path / "out", [], options))
    assert pdf.read_bytes().startswith(b"%PDF")
    page = html.read_text()
    for shown in (
        "tiny-llama and tiny-twin compared",
        "Comparison: is one model as redundant as another?",
        "strata compare",
        "Not trained alike",
    ):
        assert shown in page
