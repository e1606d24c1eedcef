"""Which sections a report has: those that fit, the same ones when it goes on, and a word on the others."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
import torch

from adapters import StrataError, load
from analysis.runs.budgets import BUDGETS
from analysis.runs.folder import Folder
from reports import sections
from reports.sections import SECTIONS, Choice, choose, comparison_seconds, kept, skipped
from tests.reference.rwkv_checkpoints import random_checkpoint

NOTEBOOKS = [s.notebook for s in SECTIONS]
LOADED = partial(load, device="cpu", dtype="float32")


def test_a_small_model_has_every_section(tiny_folder: Path) -> None:
    found = choose([str(tiny_folder)], LOADED, BUDGETS["quick"])
    assert [c.notebook for c in found] == NOTEBOOKS[:-1], "its rows are no groups of weights"
    assert all(c.held for c in found)
    assert skipped(found, Path("out")) == ""


def test_a_model_without_heads_has_no_section_on_them(tmp_path: Path) -> None:
    path = tmp_path / "rwkv4.pth"
    torch.save(random_checkpoint("4"), path)
    found = [c.notebook for c in choose([str(path)], LOADED, BUDGETS["quick"])]
    assert "depth.ipynb" in found
    assert not {"width", "quantization.ipynb"} & set(found)


def test_sections_are_held_in_their_order_for_all_models(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes its overhead at least, and the tiny model little more: three fit into three and a half."""
    budget = replace(BUDGETS["quick"], report=3.5 * sections.OVERHEAD)
    monkeypatch.setattr(sections, "SECTIONS", SECTIONS[:3])
    twin = tiny_folder.with_name("twin")
    twin.symlink_to(tiny_folder)
    found = choose([str(tiny_folder), str(twin)], LOADED, budget)
    assert [c.held for c in found] == [True, True, False, True, False, False]
    assert all(c.held for c in choose([str(twin)], LOADED, BUDGETS["full"]))


def test_a_comparison_is_set_aside(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a tiny model it takes the overhead of one notebook and little more."""
    budget = replace(BUDGETS["quick"], report=2.5 * sections.OVERHEAD)
    monkeypatch.setattr(sections, "SECTIONS", SECTIONS[:2])
    twin = tiny_folder.with_name("compared")
    twin.symlink_to(tiny_folder)
    both = [str(tiny_folder), str(twin)]
    assert [c.held for c in choose(both[:1], LOADED, budget)] == [True, True]
    assert [c.held for c in choose(both[:1], LOADED, budget, aside=sections.OVERHEAD)] == [True, False]
    one, two = (comparison_seconds(models, LOADED, BUDGETS["quick"]) for models in (both[:1], both))
    assert sections.OVERHEAD < one < two
    assert comparison_seconds([], LOADED, BUDGETS["quick"]) == 0


def test_what_a_comparison_takes_is_finite_without_heads(tmp_path: Path) -> None:
    for name in ("a.pth", "b.pth"):
        torch.save(random_checkpoint("4"), tmp_path / name)
    names = [str(tmp_path / name) for name in ("a.pth", "b.pth")]
    assert comparison_seconds(names, LOADED, BUDGETS["full"]) < 1e6


def test_sections_that_are_named_are_held(tiny_folder: Path) -> None:
    found = choose([str(tiny_folder)], LOADED, replace(BUDGETS["quick"], report=1.0), ["pruning", "width"])
    assert [(c.question, c.held) for c in found] == [("width", True), ("pruning", True)]


def test_what_is_left_out_is_named_with_its_command() -> None:
    choices = [
        Choice("a|b `c", "width", 700.0, False),
        Choice("x", "depth", 10.0, True),
        Choice("y", "width", 9000.0, False),
        Choice("y", "pruning", 45.0, False),
    ]
    said = skipped(choices, Path("out"), ["--tasks", "piqa"])
    table, commands = said.split("\n\n    ", 1)
    assert "| y | width (2.5 h), pruning (45 s) |" in table
    assert "width (12 min)" in table
    assert "depth" not in said
    assert "strata report y --only width,pruning --documents 12 --tasks piqa --out out-y" in commands
    assert "a|b" not in table, "it would be two cells"
    assert all(line.startswith("    ") for line in ("    " + commands).rstrip().split("\n")), "text, not Markdown"


def folder_of(out: Path, **request: object) -> Folder:
    """As a report holds it."""
    folder = Folder(out, {"models": ["m"], **request}, "report", "request", made="notebooks")
    with folder.writing({}):
        return folder


def test_a_report_that_goes_on_keeps_its_sections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless what is kept is of another request, or there are other sections now."""
    first, second = [Choice("m", "depth", 1.0, True)], [Choice("m", "depth", 9.0, False)]
    assert kept(folder_of(tmp_path), ["m"], lambda: first) == first
    assert kept(folder_of(tmp_path), ["m"], lambda: second) == first
    assert kept(folder_of(tmp_path, seed=1), ["m"], lambda: second) == second
    assert kept(folder_of(tmp_path), ["m"], lambda: first) == first
    monkeypatch.setattr(sections, "SECTIONS", SECTIONS[:2])
    assert kept(folder_of(tmp_path), ["m"], lambda: second) == second


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"question": "../../tmp/evil"}, "'../../tmp/evil' of 'm' is not a section"),
        ({"question": "depth.ipynb"}, "'depth.ipynb' of 'm' is not a section"),
        ({"model": "\x1b[2J"}, r"'depth' of '\x1b[2J' is not a section"),
        ({"seconds": float("nan")}, "NaN is not a JSON number"),
        ({"seconds": -1.0}, "'sections'.0.'seconds': Input should be greater than or equal to 0"),
        ({"held": "yes"}, "'sections'.0.'held': Input should be a valid boolean"),
        ({"question": None}, "'sections'.0.'question': Input should be a valid string"),
    ],
)
def test_a_choice_that_was_tampered_with_is_refused(section: dict[str, object], says: str, tmp_path: Path) -> None:
    """The names that it holds are looked up, never a path."""
    choice = Choice("m", "depth", 1.0, True)
    kept(folder_of(tmp_path), ["m"], lambda: [choice])
    path = tmp_path / "sections.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {"sections": [asdict(choice) | section]}))
    with pytest.raises(StrataError) as raised:
        kept(folder_of(tmp_path), ["m"], lambda: [choice])
    assert str(raised.value) == f"{path} cannot be used: {says}; remove it to choose the sections again"
    with pytest.raises(StrataError, match=r"unknown section '\.\./\.\./evil'"):
        _ = Choice("m", "../../evil", 1.0, True).notebook
