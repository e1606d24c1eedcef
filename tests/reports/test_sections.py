"""Which sections there are, what their studies say that they take, and that a report that goes on keeps its own."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from adapters import StrataError, load
from analysis.runs.budgets import BUDGETS, Takes
from analysis.runs.folder import Folder
from reports import sections
from reports.planner import Candidate
from reports.sections import SECTIONS, Choice, Section, kept
from tests.reference.models import spec
from tests.reference.rwkv_checkpoints import random_checkpoint


def offers(source: Path) -> dict[str, Takes | str]:
    found = Candidate.of(str(source), load(source, device="cpu", dtype="float32"), BUDGETS["quick"]).takes
    return {section.question: found[section.question] for section in SECTIONS}


def test_a_small_model_has_every_section_but_one(tiny_folder: Path) -> None:
    found = offers(tiny_folder)
    assert [q for q, takes in found.items() if isinstance(takes, str)] == ["quantization"]
    assert "which groups of 32 do not divide" in str(found["quantization"])


def test_a_model_without_heads_says_so(tmp_path: Path) -> None:
    path = tmp_path / "rwkv4.pth"
    torch.save(random_checkpoint("4"), path)
    found = offers(path)
    assert [q for q, takes in found.items() if isinstance(takes, str)] == ["width", "quantization"]
    assert "heads" in str(found["width"])


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.question)
def test_every_study_states_what_it_takes(section: Section) -> None:
    """As much per token for a model of twice the blocks, or more."""
    small, large = spec(4, d_model=32), spec(8, d_model=32)
    if section.question == "quantization":
        with pytest.raises(StrataError):
            section.takes(small)
        return
    a, b = section.takes(small), section.takes(large)
    assert 0 < sum(a.passes.values()) < sum(b.passes.values())
    assert a.beside > 0
    assert set(a.within) <= {*a.passes, "single heads"}


def test_studies_call_the_same_sweep_the_same() -> None:
    takes = {section.question: section.takes(spec(4)) for section in SECTIONS if section.question != "quantization"}
    sweep = "single blocks, mixers and ffns"
    assert {q for q, t in takes.items() if sweep in t.passes} == {"depth", "redundancy", "importance"}
    assert len({takes[q].passes[sweep] for q in ("depth", "redundancy", "importance")}) == 1
    assert takes["redundancy"].passes["single heads"] == takes["width"].passes["single heads"]


def folder_of(out: Path, **request: object) -> Folder:
    """As a report holds it."""
    folder = Folder(out, {"models": ["m"], **request}, "report", "request", made="notebooks")
    with folder.writing({}):
        return folder


def test_a_report_that_goes_on_keeps_its_sections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless what is kept is of another request, or there are other sections now."""
    first, second = [Choice("m", "depth", 12, 128, 1.0, True)], [Choice("m", "depth", 12, 128, 9.0, False)]
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
    choice = Choice("m", "depth", 12, 128, 1.0, True)
    kept(folder_of(tmp_path), ["m"], lambda: [choice])
    path = tmp_path / "sections.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {"sections": [asdict(choice) | section]}))
    with pytest.raises(StrataError) as raised:
        kept(folder_of(tmp_path), ["m"], lambda: [choice])
    assert str(raised.value) == f"{path} cannot be used: {says}; remove it to choose the sections again"
    with pytest.raises(StrataError, match=r"unknown section '\.\./\.\./evil'"):
        _ = Choice("m", "../../evil", 12, 128, 1.0, True).notebook
