"""A report folder holds the figures and tables that its notebooks show, and no others."""

from __future__ import annotations

from pathlib import Path

import nbformat

from reports.collect import collect


def notebook(path: Path, *files: object) -> Path:
    outputs = [nbformat.v4.new_output("display_data", {"text/plain": "x"}, metadata={"strata": {"caption": "", "file": f}}) for f in files]
    plain = [nbformat.v4.new_output("display_data", {"text/plain": "x"}), nbformat.v4.new_output("stream", text="x")]
    cells = [nbformat.v4.new_markdown_cell("x"), nbformat.v4.new_code_cell("x", outputs=outputs + plain)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_what_is_shown_is_collected(tmp_path: Path) -> None:
    runs, out = tmp_path / "out" / "runs", tmp_path / "out"
    for name in ("tables/a.csv", "tables/old.csv", "figures/a.svg"):
        (runs / name).parent.mkdir(parents=True, exist_ok=True)
        (runs / name).write_text(name)
    (out / "tables").mkdir()
    (out / "tables" / "gone.csv").write_text("of a section that is not shown any more")
    first, second = notebook(tmp_path / "1.ipynb", "tables/a.csv", "figures/a.svg"), notebook(tmp_path / "2.ipynb", "tables/a.csv")
    made = collect([first, second], runs, out)
    assert made == [out / "tables/a.csv", out / "figures/a.svg"]
    assert [path.read_text() for path in made] == ["tables/a.csv", "figures/a.svg"]
    assert sorted(path.name for folder in ("tables", "figures") for path in (out / folder).iterdir()) == ["a.csv", "a.svg"]


def test_no_other_file_is_copied(tmp_path: Path) -> None:
    runs, out = tmp_path / "out" / "runs", tmp_path / "out"
    (runs / "tables").mkdir(parents=True)
    (out / "secret.csv").write_text("secret")
    names = (
        "../secret.csv",
        "tables/../../secret.csv",
        "/etc/passwd",
        "tables/.hidden.csv",
        "tables/a.py",
        "secret.csv",
        3,
        ["tables/a.csv"],
    )
    assert collect([notebook(tmp_path / "1.ipynb", *names)], runs, out) == []
    assert not (out / "tables").exists()
