"""A report folder belongs to one request, and nothing that lies in it decides what runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest

from adapters.errors import StrataError
from analysis.runs.folder import Folder
from reports.report import make
from reports.request import ReportRequest
from reports.sections import SECTIONS


@pytest.fixture
def asked(tiny_folder: Path, prose: Path, tmp_path: Path) -> ReportRequest:
    options = {"corpus": str(prose), "seed": 0, "device": "cpu", "dtype": "float32"}
    return ReportRequest.of([str(tiny_folder)], [], "quick", tmp_path / "out", ["importance"], options)


def begun(asked: ReportRequest) -> Path:
    """A folder as it is while the first notebook runs."""
    with Folder(asked.out, asked.identity, "report", "request", made="notebooks").writing({}):
        (asked.out / "notebooks").mkdir()
    return asked.out


def contents(out: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_foreign_folder_does_not_name_the_notebook_that_runs(asked: ReportRequest, tmp_path: Path) -> None:
    """Neither beside the notebooks nor anywhere else; nothing has run when that is said."""
    out, evil = begun(asked), tmp_path / "evil.ipynb"
    cells = [nbformat.v4.new_code_cell(f"open({str(tmp_path / 'ran')!r}, 'w')", metadata={"tags": ["parameters"]})]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), evil)
    key, known = Folder(out, asked.identity, "report", "request").key, [s.question for s in SECTIONS]
    for name in (str(evil), str(evil.with_suffix("")), "../" * 30 + str(evil)[1:], "compare"):
        section = {"model": asked.models[0], "question": name, "documents": 12, "window": 32, "seconds": 1.0, "held": True}
        (out / "sections.json").write_text(json.dumps({"request": key, "known": known, "sections": [section]}))
        before = contents(out / "notebooks")
        with pytest.raises(StrataError, match="is not a section; remove it to choose the sections again"):
            make(asked)
        assert contents(out / "notebooks") == before
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"size": "full"}, "budget"),
        ({"only": ["depth"]}, "only"),
        ({"options": {"corpus": "texts", "seed": 1, "device": "cpu", "dtype": "float32", "documents": 3}}, "corpus, documents, seed"),
    ],
)
def test_another_report_is_refused_and_nothing_changes(asked: ReportRequest, changes: dict, says: str) -> None:
    out = begun(asked)
    before = contents(out)
    with pytest.raises(StrataError) as raised:
        make(replace(asked, **changes))
    said, _, example = str(raised.value).partition(", for example `out` ")
    assert said == f"{out} holds a report of another request (it differs in {says}): give another `out`"
    assert example.startswith(f"{out}-")
    assert contents(out) == before


def test_a_report_of_which_nothing_is_known_is_left_alone(asked: ReportRequest) -> None:
    asked.out.mkdir()
    (asked.out / "report.pdf").write_bytes(b"%PDF of somebody else")
    with pytest.raises(StrataError, match="is not empty and does not hold a report: give another `out`"):
        make(asked)
    assert [p.name for p in asked.out.iterdir()] == ["report.pdf"]


def test_two_writers(asked: ReportRequest) -> None:
    with Folder(asked.out, asked.identity, "report", "request").writing({}), pytest.raises(StrataError, match="another process is writing"):
        make(asked)
