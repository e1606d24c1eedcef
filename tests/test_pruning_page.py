"""The commands of docs/pruning.md run as they stand."""

from __future__ import annotations

import shlex
from pathlib import Path

import pandas as pd
import pytest

from tests.reference.command_line import Strata
from tests.reference.pages import code

PAGE = Path(__file__).parents[1] / "docs" / "pruning.md"


@pytest.mark.long
def test_commands(strata: Strata, offline: Path) -> None:
    lines = "".join(code(PAGE.read_text(encoding="utf-8"), "sh")).splitlines()
    assert len(lines) == 9
    said = {}
    for line in lines:
        program, *words = shlex.split(line)
        assert program == "strata"
        done = strata(*words)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        said[line] = done.stdout
    for name in ("by-hand", "heads", "sublayers", "bi-3"):
        assert (Path("pruned") / name / "model.safetensors").is_file()
    compared = next(out for line, out in said.items() if line.startswith("strata compare"))
    assert "is worse than zoo-llama-0" in " ".join(compared.split())
    assert "original_block" in pd.read_csv("runs/bi-3/summary.csv").columns
