"""Notebooks show benchmarks where their parameter `tasks` names some."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.analysis.tasks.makers import sentence, table_1, write_lines
from tests.analysis.test_notebooks_on_variants import run
from tests.reference.models import save_reader


@pytest.fixture(scope="module")
def parameters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("panels")
    table_1(folder / "data", 13)
    (folder / "reader").mkdir()
    save_reader(folder / "reader")
    write_lines(folder / "text.txt", ("\n\n".join(sentence(i, 60) for i in range(300)),))
    shared = {"corpus": str(folder / "text.txt"), "documents": 12, "window": 64, "device": "cpu", "out": str(folder / "runs")}
    return shared | {"model": str(folder / "reader"), "tasks": "piqa, xsum_loss", "data": str(folder / "data")}


@pytest.mark.long
@pytest.mark.parametrize("notebook", ["depth", "width"])
def test_panels_of_one_model(notebook: str, parameters: dict[str, object]) -> None:
    found = run(notebook, **parameters)["benchmarks"]
    assert [one.task for one in found] == ["piqa", "xsum_loss"]


@pytest.mark.long
def test_panels_along_removal_paths(parameters: dict[str, object]) -> None:
    assert [one.found.task for one in run("pruning", **parameters)["along"]] == ["piqa", "xsum_loss"]


@pytest.mark.long
def test_panels_of_two_models(parameters: dict[str, object], tmp_path: Path) -> None:
    twin = shutil.copytree(str(parameters["model"]), tmp_path / "twin")
    both = {name: value for name, value in parameters.items() if name != "model"} | {"models": f"{parameters['model']}, {twin}"}
    each = run("comparison", **both)["each"]
    assert [[one.model for one in found] for found in each] == [["reader", "twin"]] * 2
