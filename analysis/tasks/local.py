"""Benchmarks from files instead of the hub: of a folder (`layouts`, `copies`) or of the offline texts (`offline`), for lm_eval's tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapters.catalogue import PACKAGES
from adapters.errors import StrataError, one_line
from analysis.tasks.copies import HELD, copy_of
from analysis.tasks.copies import read as read_copy
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
            return _dataset_dict(_read(data, path, name or ""), f"{path} {name or ''}".strip() + f" in {data}")
        try:
            return original(path, name, **options)
        except Exception as error:  # of requests, huggingface_hub and datasets, which share no base class
            raise StrataError(f"cannot read {path} for {task}: {one_line(error)}; give files with `data` DIR, or `data` texts") from error

    datasets.load_dataset = load  # lm_eval has no other place where a task can be given its rows without being changed
    try:
        yield
    finally:
        datasets.load_dataset = original


def _dataset_dict(splits: Mapping[str, Any], of: str) -> Any:
    """As `datasets.load_dataset` gives it, from rows or Arrow tables; a split that is not there is a StrataError."""
    import datasets

    class Held(datasets.DatasetDict):
        def __missing__(self, split: object) -> Any:
            raise StrataError(f"{of} has no split {split}: it has {', '.join(map(str, self))}")

    make = datasets.Dataset.from_list
    try:
        return Held({split: make(found) if isinstance(found, list) else datasets.Dataset(found) for split, found in splits.items()})
    except (ValueError, TypeError, OverflowError) as error:  # Arrow's are of these
        raise StrataError(f"rows of {of} do not fit together: {one_line(error)}") from error


def _read(data: Path, path: str, name: str) -> Mapping[str, Any]:
    """Rows by split from the makers' files, or Arrow tables from a copy of the hub's."""
    table = OFFLINE_LAYOUTS if data == OFFLINE else LAYOUTS
    folder = PACKAGES["texts"].folder("texts") / "data" if data == OFFLINE else data.expanduser()
    if not folder.is_dir():
        raise StrataError(f"`data` {folder} is not a folder: expected one folder for each benchmark in it")
    copy = None if data == OFFLINE else copy_of(folder, path)
    if path not in table and not copy:
        raise StrataError(f"there is no layout of files for {path}: `data` knows {', '.join(sorted(table))}, and {HELD}")
    rows = {split: found for split, found in table[path].read(folder, name).items() if found} if path in table else {}
    if copy and rows:
        raise StrataError(f"{folder} holds {path} twice, as its makers' files and as Parquet in {copy}: move one of them away")
    if copy:
        return read_copy(copy, name)
    if not rows:
        raise StrataError(f"{folder} holds no rows of {path} {name}".rstrip() + f": expected {table[path].held}")
    return rows
