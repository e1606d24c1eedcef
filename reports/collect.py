"""The files of what a report shows: its figures and tables, beside the report."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat

from analysis.runs.files import write_text

SHOWN = re.compile(r"(figures|tables)/[A-Za-z0-9_-][A-Za-z0-9_.-]*\.(svg|csv)")
FOLDERS = ("figures", "tables")


def collect(notebooks: Sequence[Path], runs: Path, out: Path) -> list[Path]:
    """Copies what the executed `notebooks` have written below `runs` to `out`/figures and `out`/tables, in place of what was there."""
    for folder in FOLDERS:
        shutil.rmtree(out / folder, ignore_errors=True)
    made = []
    for name in dict.fromkeys(name for notebook in notebooks for name in _shown(notebook)):
        (out / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(runs / name, out / name)
        made.append(out / name)
    return made


def write(files: Mapping[str, str], out: Path) -> None:
    """Beside what was collected: name in `out` -> content."""
    for name, content in files.items():
        (out / name).parent.mkdir(exist_ok=True)
        write_text(out / name, content)


def _shown(notebook: Path) -> Iterator[str]:
    """Files that a notebook's outputs name; nothing else, whatever stands there."""
    for cell in nbformat.read(notebook, as_version=4).cells:
        for output in cell.get("outputs", ()):
            if name := shown_file(output.get("metadata", {}).get("strata", {})):
                yield name


def shown_file(mark: Mapping[str, Any]) -> str:
    """The figure or table that an output names; empty where it names none, or anything else."""
    name = mark.get("file")
    return name if isinstance(name, str) and SHOWN.fullmatch(name) else ""
