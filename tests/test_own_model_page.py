"""docs/own-model.md and README's commands for a model of one's own run as they stand on a tiny folder, and refusals are quoted right."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

from tests.reference.command_line import Strata
from tests.reference.models import save_reader
from tests.reference.pages import code

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "own-model.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(offline: Path) -> Path:
    """models/mine, a model of five blocks that reads text."""
    (made := Path("models", "mine")).mkdir(parents=True)
    save_reader(made, num_hidden_layers=5, max_position_embeddings=256)
    return made


def commands(page: str) -> list[list[str]]:
    """Words of the lines that run `strata`."""
    blocks = "".join(code(page, "sh"))
    return [shlex.split(line, comments=True)[1:] for line in blocks.splitlines() if line.startswith("strata ")]


@pytest.mark.long
def test_page(folder: Path, strata: Strata) -> None:
    found = commands(PAGE)
    assert [words[0] for words in found] == ["check", "sweep", "sweep", "prune", "compare", "report"]
    for words in found:
        done = strata(*words)
        assert done.returncode == 0, f"{words}\n{done.stderr}"
    table = pd.read_csv("runs/mine/summary.csv")
    assert table[table["metric"] == "delta_nll"]["n_documents"].unique().tolist() == [24]
    assert Path("pruned/mine-1/config.json").is_file()
    assert not Path("reports").exists()


@pytest.mark.long
def test_readme(folder: Path, strata: Strata) -> None:
    """All but the report, whose plan is made alone."""
    section = README.split("## Your model\n")[1].split("\n## ")[0]
    found = [[str(folder) if word == "PATH_OR_HUB_ID" else word for word in words] for words in commands(section)]
    assert [words[0] for words in found] == ["report", "check", "sweep", "prune"]
    for words in found:
        done = strata(*words, *(["--dry-run"] if words[0] == "report" else []))
        assert done.returncode == 0, f"{words}\n{done.stderr}"
    assert Path("runs/mine/summary.csv").is_file()
    assert Path("pruned/mine/config.json").is_file()


def test_refusals_are_quoted_as_they_are() -> None:
    table = PAGE.split("| it says | do this |\n")[1].split("\n\n")[0]
    quoted = [text for row in table.splitlines() for text in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
    assert len(quoted) >= 9
    code = "".join(path.read_text(encoding="utf-8") for room in ("adapters", "analysis") for path in sorted((ROOT / room).rglob("*.py")))
    for text in quoted:
        for part in re.split(r"\.\.\.|KEY VALUE|config\.json|^unknown ", text):
            assert part.strip(" :,") in code, text
