"""`pytest -m '' --record tests/adapters`: what passes is written to adapters/supported.json, and the page that is made of it.

A test says what it shows by a mark, `shows(*model_types, against=..., abilities=..., checkpoint=...)`; where no abilities are named they
are those of the check in its id. The rows of model_types that some test of this session is about are written anew.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from adapters.registry import FAMILIES
from adapters.supported import ABILITIES, RECORD, page, rows

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
CHECKS = {  # of the contract and of parity -> the ability that they show
    **dict.fromkeys(("forward", "padding", "ablated_block_is_deleted_block"), ("blocks",)),
    "ablations": ("blocks", "heads"),
    **dict.fromkeys(("means", "taylor"), ("heads",)),
    "deletion_of_heads": ("deletion",),
    **dict.fromkeys(("single_experts", "all_experts", "deletion_of_experts"), ("experts",)),
    **dict.fromkeys(("cut_in_two", "past_of_edges", "past_rows", "texts"), ("pasts",)),
    **dict.fromkeys(("pruned_files", "files", "every_key"), ("export",)),
}
CASE = re.compile(r"\[(?P<variant>.*?)(-contract)?-check_(?P<check>\w+)\]$")


class Shown(NamedTuple):
    """What one test says of one model_type."""

    model_type: str
    abilities: tuple[str, ...]
    variant: str
    against: str
    checkpoint: str
    outcome: str
    reason: str  # of a skip


def note(item: Any) -> None:
    """Puts what a test is about where its report takes it along, to another process too."""
    case = CASE.search(item.nodeid)
    for mark in item.iter_markers("shows"):
        how = {"against": "", "checkpoint": "", "abilities": CHECKS.get(case["check"], ()) if case else ()} | mark.kwargs
        for model_type in mark.args:
            found = (model_type, how["abilities"], case["variant"] if case else "", how["against"], how["checkpoint"])
            item.user_properties.append(("shows", found))


def of_report(report: Any) -> list[Shown]:
    """Nothing where a test has not ended."""
    if report.when != "call" and report.outcome == "passed":
        return []
    reason = report.longrepr[2].removeprefix("Skipped: ") if report.skipped and isinstance(report.longrepr, tuple) else ""
    return [Shown(*found, report.outcome, reason) for name, found in report.user_properties if name == "shows"]


def merged(record: Mapping[str, Any], shown: Iterable[Shown], known: Iterable[str], today: str) -> dict[str, Any]:
    """The record with the rows of what was shown anew; None is the row of a known model_type that nothing is recorded of."""
    of_type: dict[str, list[Shown]] = defaultdict(list)
    for one in shown:
        of_type[one.model_type].append(one)
    return {name: _row(of_type[name], today) if name in of_type else record.get(name) for name in sorted(known)}


def _row(shown: list[Shown], today: str) -> dict[str, Any] | None:
    """None where nothing passed. An ability counts the tests that passed when all did, or says why not; a failed one is not there."""
    passed = [one for one in shown if one.outcome == "passed"]
    cells: dict[str, int | str] = {}
    for ability in ABILITIES:
        about = [one for one in shown if ability in one.abilities]
        if about and all(one.outcome != "failed" for one in about):
            cells[ability] = next((one.reason for one in about if one.outcome == "skipped"), len(about))
    names = dict.fromkeys(one.against for one in passed if one.against)
    return {
        "variants": [*dict.fromkeys(one.variant for one in passed if one.variant)],
        "shows": cells,
        "against": ", ".join(f"{name} {version(name)}" if name in ("transformers", "rwkv") else name for name in names),
        "checkpoint": next((one.checkpoint for one in passed if one.checkpoint), ""),
        "version": version("llm-strata"),
        "date": today,
    } if passed else None  # fmt: skip


def write(shown: Iterable[Shown]) -> None:
    old = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}
    known = [model_type for family in FAMILIES.own.values() for model_type in family.model_types]
    record = merged(old, shown, known, datetime.now(UTC).date().isoformat())
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(rows()), encoding="utf-8")
