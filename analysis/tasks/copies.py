"""Copies of the hub's data sets in Parquet, as `hf download` and the hub's own conversion lay them out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapters.errors import StrataError, one_line
from analysis.data.columns import parquet
from analysis.data.folders import kind_of
from analysis.data.splits import declared
from analysis.data.streams import ending

HELD = (
    "OWNER/NAME/ or NAME/: any data set as the hub has it in Parquet, by the name of its configuration and split (anatomy/test-*.parquet)"
)
SHARD = re.compile(r"-\d+-of-\d+$")
ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def copy_of(folder: Path, path: str) -> Path | None:
    """The copy of the data set `path` in `folder`, where there is one."""
    places = [folder / path, folder / path.rpartition("/")[2]] if ID.fullmatch(path) else []
    return next((place for place in places if place.is_dir() and _files(place)), None)


def read(copy: Path, configuration: str) -> dict[str, Any]:
    """Arrow tables by split. Raises StrataError for a configuration or splits that are not there, and for damaged files."""
    splits = declared(copy, configuration or None) or _by_name(copy, configuration)
    return {split: _joined(files) for split, files in splits.items()}


def _by_name(copy: Path, configuration: str) -> dict[str, list[Path]]:
    folder = copy / configuration
    if not folder.is_dir() or (configuration and not ID.fullmatch(configuration)):
        raise StrataError(
            f"{copy} has no folder {configuration!r}, the configuration that is asked, and no README.md that says where it lies"
        )
    found: dict[str, list[Path]] = {}
    for file in _files(folder):
        name = SHARD.sub("", file.name[: -len(ending(file))])
        found.setdefault(file.parent.name if name.isdigit() else name, []).append(file)
    return found


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if kind_of(file) == "Parquet")


def _joined(files: Sequence[Path]) -> Any:
    import pyarrow as pa

    tables = []
    for path in files:
        with parquet(path) as file:
            table = file.read()
        plain = [column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column for column in table.columns]
        tables.append(pa.table(plain, names=table.column_names).replace_schema_metadata(table.schema.metadata))
    try:
        return pa.concat_tables(tables)
    except pa.ArrowInvalid as error:
        raise StrataError(f"the files of {files[0].parent} do not fit together: {one_line(error)}") from error
