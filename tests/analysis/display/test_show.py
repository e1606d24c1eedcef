"""What a notebook shows lies in files as well, under names that say what it is, whatever the model is called."""

from __future__ import annotations

import ast
import io
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest

from adapters import StrataError
from analysis.display import show

NOTEBOOKS = sorted((Path(__file__).parents[3] / "notebooks").glob("*.ipynb"))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch):
    """What is displayed: data and metadata of each output; and no place is left behind."""
    outputs: list[tuple[dict, dict]] = []
    monkeypatch.setattr(show, "display", lambda data, metadata=None, raw=False: outputs.append((data, metadata)))
    with plt.rc_context():
        yield outputs
        show.setup()


def drawn() -> plt.Figure:
    figure, ax = plt.subplots()
    ax.plot([1, 2], [2, 1])
    return figure


def test_figures_and_tables_are_written(shown: list, tmp_path: Path) -> None:
    """All digits of numbers, no formula for a spreadsheet, and the SVG that is shown; the output says which file it is."""
    show.setup(tmp_path / "runs", "depth", "smollm2")
    rows = pd.DataFrame({"block": [0, 1], "ppl": [1 / 3, None], "=name": ["=1+1", "a|b"], "significant": [True, False]})
    show.table(rows, "A sentence.", "blocks")
    show.figure(drawn(), "A sentence.", "benchmark", "piqa")
    table, figure = tmp_path / "runs/tables/depth--smollm2--blocks.csv", tmp_path / "runs/figures/depth--smollm2--benchmark--piqa.svg"
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == [figure, table]
    assert table.read_text() == "block,ppl,'=name,significant\n0,0.3333333333333333,'=1+1,True\n1,,a|b,False\n"
    assert pd.read_csv(table)["ppl"][0] == rows["ppl"][0]
    ElementTree.parse(io.StringIO(figure.read_text()))
    (_, of_table), (data, of_figure) = shown[1], shown[2]
    assert data["image/svg+xml"] == figure.read_text()
    assert of_table == {"strata": {"caption": "A sentence.", "file": "tables/depth--smollm2--blocks.csv"}}
    assert of_figure == {"strata": {"caption": "A sentence.", "file": "figures/depth--smollm2--benchmark--piqa.svg"}}


def test_nothing_is_written_without_a_place_or_a_name(shown: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    show.setup()
    show.table(pd.DataFrame({"a": [1]}), "A sentence.", "name")
    show.setup(tmp_path)
    show.figure(drawn(), "A sentence.")
    assert not list(tmp_path.iterdir())
    assert shown[1][1] == shown[2][1] == {"strata": {"caption": "A sentence."}}


def test_names_are_safe_and_each_its_own(shown: list, tmp_path: Path) -> None:
    models = ("../../etc/cron", "a/model", "b/model", "model", "a b", "a-b", "a--b", "", "-rf", "层", "\x1b[2J", "x" * 300, "\ud800")
    for model in models:
        show.setup(tmp_path / "runs", "depth", model)
        show.table(pd.DataFrame({"a": [1]}), "A sentence.", "name")
    show.setup(tmp_path / "runs", "depth", "a")
    show.table(pd.DataFrame({"a": [1]}), "A sentence.", "b", "name")
    written = list((tmp_path / "runs" / "tables").iterdir())
    assert len(written) == len(models) + 1
    assert all(path.name.isascii() and path.name.isprintable() and path.name.startswith("depth--") for path in written)
    assert [path.name for path in tmp_path.rglob("*") if path.is_dir()] == ["runs", "tables"]


def test_a_folder_that_cannot_be_written_to(shown: list, tmp_path: Path) -> None:
    (tmp_path / "tables").write_text("")
    show.setup(tmp_path, "depth")
    with pytest.raises(StrataError, match=r"cannot write to .*tables"):
        show.table(pd.DataFrame({"a": [1]}), "A sentence.", "name")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_everything_a_notebook_shows_has_a_name_of_its_own(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    tree = ast.parse("\n".join(cell.source for cell in cells if cell.cell_type == "code"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("show.")]
    (setup,) = (call for call in calls if ast.unparse(call.func) == "show.setup")
    place, notebook, *model = map(ast.unparse, setup.args)
    assert (place, notebook) == ("parameters.out", repr(path.stem))
    assert model == ([] if path.stem == "comparison" else ["parameters.model"])
    for kind in ("show.figure", "show.table"):
        names = [tuple(map(ast.unparse, call.args[2:])) for call in calls if ast.unparse(call.func) == kind]
        assert all(names), f"{kind} without a name"
        assert len(set(names)) == len(names), names
