"""Rows of text: how a corpus is written, and which column of its files is read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from adapters.errors import StrataError, unknown
from analysis.data.columns import NULL, TEXT, columns, is_number, texts
from analysis.data.folders import is_pattern, is_there, kind_of, path_of
from analysis.data.reading import Reading

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
LONGEST_NAME = 60  # characters; a column with a longer one is a text in a file without a header


@dataclass(frozen=True, slots=True)
class Source:
    """A corpus as it is written: `NAME[:CONFIGURATION[:SPLIT]][#COLUMN]`, where NAME is a path, a pattern or the id of a data set.

    Without a configuration it is the default or the only one, without a split `train` or the only one, without a column
    `text` or the only column of strings.
    """

    name: str
    configuration: str | None = None
    split: str | None = None
    column: str | None = None

    @classmethod
    def of(cls, corpus: str) -> Source:
        if is_there(corpus):  # a path may hold the signs
            return cls(corpus)
        name, _, column = corpus.partition("#")
        name, _, part = name.partition(":")
        configuration, _, split = part.partition(":")
        return cls(name, configuration or None, split or None, column or None)

    def __str__(self) -> str:
        part = ":".join((self.configuration or "", *filter(None, [self.split])))
        return self.name + (f":{part}" if part else "") + (f"#{self.column}" if self.column else "")

    @property
    def path(self) -> Path:
        return path_of(self.name)

    @property
    def is_hub(self) -> bool:
        """The id of a data set on the hub."""
        return bool(HUB_ID.fullmatch(self.name)) and not is_there(self.name) and kind_of(self.path) is None

    @property
    def is_local(self) -> bool:
        """A file, a folder or a pattern."""
        return is_there(self.name) or (is_pattern(self.name) and not self.is_hub)


def rows(source: Source, reading: Reading) -> Iterator[str | None]:
    """The column of text of the files of `reading`, row by row; None where it has no value. Raises StrataError when it cannot be had."""
    for file in reading.selection.files:
        if not (kinds := columns(file)):
            continue  # an empty file
        name = str(file)
        if reading.column is None:
            reading.column = column_of(source, name, kinds)
        elif reading.column not in kinds:
            raise StrataError(f"{name} has no column {reading.column!r}, which is read of {source.name}: it has {', '.join(kinds)}")
        if reading.kind not in ("CSV", "TSV"):  # where all is text
            require_text(name, reading.column, kinds)
        yield from texts(file, reading.column)


def column_of(source: Source, name: str, kinds: Mapping[str, str]) -> str:
    """That of `source` in the file or data set `name`.

    Raises StrataError when it is not there, and when it cannot be told which is meant.
    """
    if source.column is not None and source.column not in kinds:
        raise unknown(f"column of {name}", source.column, kinds)
    if found := source.column or ("text" if "text" in kinds else None):
        return found
    strings = [column for column, kind in kinds.items() if kind == TEXT]
    if len(strings) != 1:
        raise StrataError(f"{name} has no column `text`: name one of {', '.join(kinds)}, as in {source.name}#{next(iter(kinds))}")
    if len(strings[0]) > LONGEST_NAME or any(map(is_number, kinds)):
        raise StrataError(
            f"{name} seems to have no header, its columns are called {', '.join(kinds)[:100]}: put one in front, or name a column "
            f"behind {source.name}#"
        )
    return strings[0]


def require_text(name: str, column: str, kinds: Mapping[str, str]) -> None:
    """Raises StrataError for a column that is known to hold something else."""
    if kinds[column] not in (TEXT, NULL, "of several kinds"):
        raise StrataError(f"column {column!r} of {name} is not text but {kinds[column]}: the columns are {', '.join(kinds)}")
