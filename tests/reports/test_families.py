"""The notebooks on depth and width run on every family of decoders."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.execute import execute
from tests.reference.families import STOCK
from tests.reports.conftest import save_tiny

ROOT = Path(__file__).parents[2]
ELSEWHERE = ("llama", "mistral", "qwen2", "qwen3", "glm")
TYPES = {name: config for name, config in STOCK.items() if name not in ELSEWHERE}
HEADLESS = ("mamba", "falcon_mamba")


@pytest.mark.long
@pytest.mark.parametrize("model_type", TYPES)
def test_depth_and_width(model_type: str, prose: Path, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / model_type, prose, model_type, **TYPES[model_type])
    chosen = {"model": str(folder), "corpus": str(prose), "documents": 12, "window": 24, "out": str(tmp_path / "runs"), "device": "cpu"}
    names = ["depth", *["width"] * (model_type not in HEADLESS)]
    made = execute([ROOT / "notebooks" / f"{name}.ipynb" for name in names], tmp_path / "out", chosen)
    assert [path.stem for path in made] == names
