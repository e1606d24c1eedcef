"""The commands of docs/pruning.md run as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

from adapters.catalogue import PACKAGES
from adapters.errors import StrataError
from tests.reference.command_line import Strata

PAGE = Path(__file__).parents[1] / "docs" / "pruning.md"


@pytest.mark.long
def test_commands(strata: Strata, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        PACKAGES["texts"].folder("texts")
    except StrataError as error:
        pytest.skip(f"the offline texts are not there: {error}")
    monkeypatch.chdir(tmp_path)
    lines = "".join(re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)).splitlines()
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
