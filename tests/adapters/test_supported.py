"""The table of supported models: made of what passed, and of nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from adapters.registry import FAMILIES
from adapters.supported import ABILITIES, RECORD, UNKNOWN, page, rows
from tests.record import PAGE, Shown, merged


def shown(outcome: str = "passed", *, abilities: tuple[str, ...] = ("blocks",), variant: str = "a", reason: str = "") -> Shown:
    return Shown("new", abilities, variant, "transformers", "", outcome, reason)


def test_every_model_type_has_its_row() -> None:
    known = {model_type for family in FAMILIES.own.values() for model_type in family.model_types}
    assert set(json.loads(RECORD.read_text())) == known
    assert {row.model_type for row in rows()} == known


def test_the_page_is_made_of_the_record() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(rows())


def test_what_did_not_pass_is_not_said(tmp_path: Path) -> None:
    cases = {
        "all pass": ([shown(), shown(variant="b")], "yes"),
        "one fails": ([shown(), shown("failed")], UNKNOWN),
        "one is skipped": ([shown(), shown("skipped", reason="no heads")], "no"),
        "another ability": ([shown(abilities=("pasts",))], UNKNOWN),
        "all fail": ([shown("failed")], UNKNOWN),
    }
    for name, (found, says) in cases.items():
        (tmp_path / "record.json").write_text(json.dumps(merged({}, found, ["new", "other"], "2026-01-02")))
        row, other = rows(tmp_path / "record.json")
        assert row.cells["blocks"] == says, name
        assert set(other.cells.values()) == {UNKNOWN}
        assert row.reasons == (("blocks: no heads",) if says == "no" else ())
        assert row.recorded.endswith("2026-01-02") == (name != "all fail")


def test_rows_of_other_models_stay_and_those_that_are_gone_go() -> None:
    old = {"kept": {"variants": ["x"]}, "gone": None, "new": {"variants": ["old"]}}
    record = merged(old, [shown()], ["kept", "new"], "2026-01-02")
    assert set(record) == {"kept", "new"}
    assert record["kept"] == old["kept"]
    assert record["new"]["variants"] == ["a"]
    assert record["new"]["shows"] == {"blocks": 1}
    assert set(record["new"]["shows"]) <= set(ABILITIES)
