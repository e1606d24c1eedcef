"""docs/adapter.md: its module, its checkpoint, its session and its tests run as they stand."""

from __future__ import annotations

import doctest
import re
import sys
from pathlib import Path

import pytest
import torch

from adapters.catalogue import PACKAGES
from adapters.errors import StrataError
from adapters.registry import FAMILIES, Family

PAGE = (Path(__file__).parents[1] / "docs" / "adapter.md").read_text(encoding="utf-8")


def test_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        PACKAGES["texts"].folder("texts")
    except StrataError as error:
        pytest.skip(f"the offline texts are not there: {error}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(FAMILIES, "things", dict(FAMILIES.things))
    module, tests, entry = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(module.splitlines()) <= 15
    Path("my_arcee.py").write_text(module, encoding="utf-8")
    torch.manual_seed(0)
    code = "".join(re.findall(r"```pycon\n(.*?)```", PAGE, flags=re.DOTALL))
    said: list[str] = []
    session = doctest.DocTestParser().get_doctest(code, {"__name__": "page"}, "docs/adapter.md", None, 0)
    assert not doctest.DocTestRunner().run(session, out=said.append).failed, "".join(said)

    names: dict = {"__name__": "test_my_arcee"}
    exec(tests, names)
    (mark,) = names["test_contract"].pytestmark
    assert len(mark.args[1]) > 15
    for case in mark.args[1]:
        case.values[0]()

    exec(entry, names)
    assert isinstance(names["ARCEE"], Family)
    assert names["ARCEE"].adapter is sys.modules["my_arcee"]
