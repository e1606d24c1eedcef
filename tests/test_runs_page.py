"""docs/runs.md lists what runs hold, by what code writes, and its commands and its session run as they stand."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pandas as pd

from analysis.engine.ablations import KINDS
from analysis.metrics.metrics import METRICS
from analysis.metrics.spans import COLUMNS as SPAN_COLUMNS
from analysis.runs.folder import Manifest
from analysis.runs.records import FIELDS
from analysis.runs.tables import COLUMNS, ORIGINAL
from analysis.tasks import chances
from analysis.writing.table import TITLES
from tests.reference.command_line import Strata
from tests.reference.pages import code, run_session

PAGE = (Path(__file__).parents[1] / "docs" / "runs.md").read_text(encoding="utf-8")


def rows(head: str) -> list[list[str]]:
    """Names in the first column of the table whose first cell this is; a row may have several."""
    table = PAGE.split(f"| {head} |")[1].split("\n\n")[0]
    return [re.findall(r"`([^`]+)`", row.split(" | ")[0]) for row in table.splitlines()[2:]]


def names(head: str) -> list[str]:
    return [name for row in rows(head) for name in row]


def test_columns() -> None:
    assert names("column") == [*COLUMNS, ORIGINAL]
    assert all(f"`{kind}`" in PAGE for kind in KINDS)
    assert [name for name in SPAN_COLUMNS if name not in COLUMNS] == ["start", "length"]


def test_record_and_manifest_fields() -> None:
    assert all(f"`{name}`" in PAGE for name in FIELDS)
    declared = {field.alias or name for name, field in Manifest.model_fields.items()}
    assert declared <= set(names("key"))


def test_metrics_are_those_of_code() -> None:
    known = set(names("metric"))
    assert {*TITLES, *chances.METRICS} <= known
    assert {"bi", "relative_magnitude", "norm"} <= known & set(METRICS)


def test_page(offline: Path, strata: Strata) -> None:
    (command,) = code(PAGE, "sh")
    done = strata(*shlex.split(command)[1:])
    assert done.returncode == 0, done.stderr
    run_session(PAGE, "docs/runs.md")

    written = json.loads(Path("runs/parts/manifest.json").read_text(encoding="utf-8"))
    assert written.keys() == set(names("key")) - {"doubt"}  # which this model gives no reason for
    files = {re.sub(r"^scores/.*\.", "scores/NAME.", str(path.relative_to("runs/parts"))) for path in Path("runs/parts").rglob("*.*")}
    assert files == {*names("file")} - {"shards.json"}
    table = pd.read_csv("runs/parts/summary.csv")
    assert {*table["metric"]} <= {*names("metric")}
