"""docs/adapter.md: its module, its checkpoint, its session and its tests run as they stand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from adapters.registry import FAMILIES, Family
from tests.reference.pages import code, run_session

PAGE = (Path(__file__).parents[1] / "docs" / "adapter.md").read_text(encoding="utf-8")


def test_page(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(offline)
    monkeypatch.setattr(FAMILIES, "things", dict(FAMILIES.things))
    module, tests, entry = code(PAGE, "python")
    assert len(module.splitlines()) <= 15
    Path("my_arcee.py").write_text(module, encoding="utf-8")
    torch.manual_seed(0)
    run_session(PAGE, "docs/adapter.md")

    names: dict = {"__name__": "test_my_arcee"}
    exec(tests, names)
    (mark,) = names["test_contract"].pytestmark
    assert len(mark.args[1]) > 15
    for case in mark.args[1]:
        case.values[0]()

    exec(entry, names)
    assert isinstance(names["ARCEE"], Family)
    assert names["ARCEE"].adapter is sys.modules["my_arcee"]
