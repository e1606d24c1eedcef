"""Larger real models and texts that may lie beside the project; tests that need them skip when they are absent."""

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("STRATA_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


def shared(path: str) -> Path:
    """The file or folder, or a skip with the reason."""
    found = FOLDER / path
    if not found.exists():
        pytest.skip(f"needs the data file {path}, which is not part of the project")
    return found
