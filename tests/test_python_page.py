"""The page on Python and the README's example run as they stand."""

import doctest
import re
from pathlib import Path

import pytest

from adapters.catalogue import PACKAGES
from adapters.errors import StrataError
from analysis.metrics.metrics import METRICS

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        PACKAGES["texts"].folder("texts")
    except StrataError as error:
        pytest.skip(f"the offline texts are not there: {error}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(METRICS, "things", dict(METRICS.things))  # the page registers one


def test_page(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    code = "".join(re.findall(r"```pycon\n(.*?)```", page, flags=re.S))
    test = doctest.DocTestParser().get_doctest(code, {"__name__": "page"}, "docs/python.md", None, 0)
    assert len(test.examples) > 20
    runner = doctest.DocTestRunner()
    said: list[str] = []
    failed = runner.run(test, out=said.append).failed
    assert not failed, "".join(said)
    assert (tmp_path / "without-3-and-4" / "config.json").is_file()
    assert (tmp_path / "path.svg").stat().st_size > 1000


@pytest.mark.long
def test_readme(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """With a smaller model of fewer blocks in the place of SmolLM2."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## From Python\n")[1]
    code = re.findall(r"```python\n(.*?)```", section, flags=re.S)[0]
    assert len(code.splitlines()) <= 15
    exec(code.replace('"smollm2"', '"zoo-llama-0"'), {"__name__": "readme"})
    assert (tmp_path / "smollm2-without-3-blocks" / "config.json").is_file()
    out = capsys.readouterr().out
    assert "zoo-llama-0" in out
    assert "RWKV" in out
