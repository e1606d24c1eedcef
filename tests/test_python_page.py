"""The page on Python and the README's example run as they stand."""

from pathlib import Path

import pytest

from analysis.metrics.metrics import METRICS
from tests.reference.pages import code, run_session

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def metrics_as_before(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METRICS, "things", dict(METRICS.things))  # the page registers one


def test_page(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert run_session(page, "docs/python.md") > 20
    assert (tmp_path / "without-3-and-4" / "config.json").is_file()
    assert (tmp_path / "path.svg").stat().st_size > 1000


@pytest.mark.long
def test_readme(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """With a smaller model of fewer blocks in the place of SmolLM2."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## From Python\n")[1]
    example = code(section, "python")[0]
    assert len(example.splitlines()) <= 15
    exec(example.replace('"smollm2"', '"zoo-llama-0"'), {"__name__": "readme"})
    assert (tmp_path / "smollm2-without-3-blocks" / "config.json").is_file()
    out = capsys.readouterr().out
    assert "zoo-llama-0" in out
    assert "RWKV" in out
