"""Texts of a run are kept as they are written, and a killed run goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adapters import Ablation, StrataError, load
from analysis.engine import decoding, row_budget
from analysis.engine.ablations import single_ablations
from analysis.engine.decoding import decode
from analysis.engine.row_budget import Prompt, row_bytes
from analysis.runs.writing import WritingStudy
from tests.reference.models import save_reader

TEXTS = ("a cat", "a cat sat", "the old", "the red bird")


@pytest.fixture
def study(tmp_path: Path) -> WritingStudy:
    save_reader(tmp_path / "model")
    model = load(tmp_path / "model", device="cpu")
    assert model.tokenizer is not None
    prompts = [Prompt((256, *model.tokenizer.encode(text).ids), 6, ("zz",)) for text in TEXTS]
    return WritingStudy.of(model, single_ablations(model.spec, ["blocks", "heads"]), prompts)


def test_a_record_holds_tokens_text_and_why(study: WritingStudy, tmp_path: Path) -> None:
    counted: list[int] = []
    found = study.texts(tmp_path / "run", counted.append)
    assert sum(counted) == study.steps == found.size
    for written in decode(study.model, study.plan, study.prompts):
        kept = found[written.ablation, written.prompt]
        assert kept == {"tokens": written.tokens, "text": written.text, "why": written.why}


def test_a_killed_run_goes_on(study: WritingStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ablations come in parts; of what was recorded nothing is written again."""
    monkeypatch.setitem(row_budget.ROWS, "cpu", 7)
    kills_at(40, study, study.texts(tmp_path / "whole"), tmp_path, monkeypatch)


def test_parts_that_memory_makes_are_kept(study: WritingStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for two rows, what two ablations wrote behind all prompts is there when the next two are killed."""
    whole = study.texts(tmp_path / "whole")
    short = replace(study, memory=2 * row_bytes(study.model, study.prompts))
    assert kills_at(2 * len(TEXTS) + 1, short, whole, tmp_path, monkeypatch) >= 2 * len(TEXTS)


def kills_at(text: int, study: WritingStudy, whole: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Ends the run with this text, and looks at how it goes on; how many texts were kept."""
    run = study.open(tmp_path / "run")
    calls = 0

    class Killed(Exception):
        pass

    def kill(n: int) -> None:
        nonlocal calls
        calls += n
        if calls == text:
            raise Killed

    with pytest.raises(Killed):
        study.texts(tmp_path / "run", kill)
    held = run.records()
    assert 0 < sum(len(record.ablations) for record in held.records) < whole.size
    before = calls
    reads: list[int] = []
    original = decoding.LiveRow
    monkeypatch.setattr(decoding, "LiveRow", lambda *a: (reads.append(1), original(*a))[1])
    again = study.texts(tmp_path / "run")
    assert (again == whole).all()
    assert before > 0
    kept = sum(len(record.ablations) for record in held.records)
    assert len(reads) == whole.size - kept
    return kept


def test_damaged_texts_are_skipped(study: WritingStudy, tmp_path: Path) -> None:
    whole = study.texts(tmp_path / "run")
    (path,) = (tmp_path / "run").glob("scores/*.jsonl")
    lines = [json.loads(line) for line in path.read_text().split("\n") if line]
    for line, change in zip(lines, ({"why": "bored"}, {"tokens": [1.5]}, {"text": 3}, {"more": 1}), strict=True):
        line["scores"]["written"][0][0] |= change
    path.write_text("".join("\n" + json.dumps(line) for line in lines))
    assert study.open(tmp_path / "run").records().records == []
    assert (study.texts(tmp_path / "run") == whole).all()


def test_means_are_refused(study: WritingStudy) -> None:
    with pytest.raises(StrataError, match="leave nothing behind"):
        WritingStudy.of(study.model, [Ablation(blocks={0}, edit="mean")], study.prompts)
