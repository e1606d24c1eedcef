"""Benchmarks from files instead of the hub: lm_eval's tasks get the rows of a folder (`layouts`) or of the offline texts (`offline`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapters.catalogue import PACKAGES
from adapters.errors import StrataError, one_line
from analysis.tasks.files import Splits
from analysis.tasks.layouts import LAYOUTS
from analysis.tasks.offline import OFFLINE, OFFLINE_LAYOUTS


@contextmanager
def reading_from(data: Path | None, task: str) -> Iterator[None]:
    """While it lasts, `datasets.load_dataset`, which lm_eval calls by itself, reads the files in `data`, or else the hub.

    Raises StrataError when the hub cannot be reached, when files are missing or malformed, and for a data set without a layout.
    """
    import datasets

    original = datasets.load_dataset

    def load(path: str, name: str | None = None, **options: Any) -> Any:
        if data is not None:
            rows = _read(data, path, name or "")
            return datasets.DatasetDict({split: datasets.Dataset.from_list(found) for split, found in rows.items()})
        try:
            return original(path, name, **options)
        except Exception as error:  # of requests, huggingface_hub and datasets, which share no base class
            raise StrataError(f"cannot read {path} for {task}: {one_line(error)}; give files with --data DIR, or `--data texts`") from error

    datasets.load_dataset = load  # lm_eval has no other place where a task can be given its rows without being changed
    try:
        yield
    finally:
        datasets.load_dataset = original


def _read(data: Path, path: str, name: str) -> Splits:
    table = OFFLINE_LAYOUTS if data == OFFLINE else LAYOUTS
    if path not in table:
        raise StrataError(f"there is no layout of files for {path}: --data knows {', '.join(sorted(table))}")
    folder = PACKAGES["texts"].folder("texts") / "data" if data == OFFLINE else data.expanduser()
    if not folder.is_dir():
        raise StrataError(f"--data {folder} is not a folder: expected one folder for each benchmark in it")
    rows = {split: found for split, found in table[path].read(folder, name).items() if found}
    if not rows:
        raise StrataError(f"{folder} holds no rows of {path} {name}".rstrip() + f": expected {table[path].held}")
    return rows
