"""Rows of text: data sets of the Hugging Face hub, folders laid out as there, and files; read by `datasets`, never with code of theirs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from adapters.errors import StrataError, one_line, unknown

ROWS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv"}  # files of rows -> what reads them
BATCH = 64  # rows that are Python strings at once
TEXT = ("string", "large_string", "string_view")  # columns that can be a corpus, in Arrow's words
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True, slots=True)
class Source:
    """A corpus as it is written: `NAME[:CONFIGURATION[:SPLIT]][#COLUMN]`, where NAME is a path or the id of a data set.

    Without a configuration it is the default or the only one, without a split `train` or the only one, without a column
    `text` or the only column of strings.
    """

    name: str
    configuration: str | None = None
    split: str | None = None
    column: str | None = None

    @classmethod
    def of(cls, corpus: str) -> Source:
        if Path(corpus).expanduser().exists():  # a path may hold the signs
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
        return Path(self.name).expanduser()

    @property
    def is_data_set(self) -> bool:
        """On the hub, or a folder laid out as there: with files of rows, and .txt files at most when a part of it is named."""
        if self.path.is_dir():
            named = self.configuration or self.split or self.column
            return bool(files(self.path, ROWS) and (named or not files(self.path, [".txt"])))
        return bool(HUB_ID.fullmatch(self.name)) and not self.path.exists() and self.path.suffix not in (".txt", *ROWS)

    @property
    def has_rows(self) -> bool:
        return self.is_data_set or (self.path.is_file() and self.path.suffix in ROWS)


def rows(source: Source) -> Iterator[str]:
    """The column of text, row by row; missing values are passed over. Raises StrataError when it cannot be had."""
    with _explained(source):
        column = None
        for table in _tables(source):
            types = {field.name: str(field.type) for field in table.schema}
            column = column or _column(source, types)
            kind = types.get(column, "missing")
            if kind not in (*TEXT, "null"):
                raise StrataError(f"column {column!r} of {source.name} is not text but {kind}: the columns are {', '.join(types)}")
            yield from (row for row in table[column].to_pylist() if row is not None)


def _column(source: Source, types: dict[str, str]) -> str:
    if source.column is not None and source.column not in types:
        raise unknown(f"column of {source.name}", source.column, types)
    strings = [name for name, kind in types.items() if kind in TEXT]
    found = source.column or ("text" if "text" in types else None) or (strings[0] if len(strings) == 1 else None)
    if found is None:
        raise StrataError(f"{source.name} has no column `text`: name one of {', '.join(types)}, as in {source.name}#{next(iter(types))}")
    return found


def _tables(source: Source) -> Iterator[Any]:
    """Arrow tables or record batches of a few rows."""
    from datasets import load_dataset  # 1.5 s, and only where a corpus asks for it
    from pyarrow.parquet import ParquetFile

    name, path = source.name, source.path.resolve()
    if path.is_file():
        if source.configuration or source.split:
            raise StrataError(f"{name} is a file, which has no configurations or splits: at most a column can be named, as in {name}#text")
        if path.suffix == ".parquet":  # `datasets` has Arrow read ahead of us, up to the whole file
            return ParquetFile(path).iter_batches(batch_size=BATCH)
        found = load_dataset(ROWS[path.suffix], data_files=escape(str(path)), split="train", streaming=True)
        return found.with_format("arrow").iter(BATCH)
    splits = load_dataset(str(path) if path.is_dir() else name, source.configuration, streaming=True)
    split = source.split or ("train" if "train" in splits else min(splits))
    if split not in splits:
        raise unknown(f"split of {name}", split, splits)
    if not source.split and split != "train" and len(splits) > 1:
        stem = f"{name}:{source.configuration or ''}"
        raise StrataError(f"{name} has no split `train`: name one of {', '.join(splits)}, as in {stem}:{split}")
    return splits[split].with_format("arrow").iter(BATCH)


@contextmanager
def _explained(source: Source) -> Iterator[None]:
    """Turns what the loader raises into a StrataError that says what to do."""
    import httpx
    from datasets import logging
    from datasets.exceptions import DatasetNotFoundError

    logging.set_verbosity(logging.CRITICAL)  # it logs what it raises
    name, path = source.name, source.path
    file = "or give a file (text, .jsonl, .parquet, .csv)"
    try:
        yield
    except StopIteration as error:  # a file of JSON lines without any
        raise StrataError(f"{name} is empty: a corpus holds at least one text") from error
    except DatasetNotFoundError as error:
        raise StrataError(f"{name} is neither here nor on the hub for you: check it, `hf auth login` for gated ones, {file}") from error
    except UnicodeDecodeError as error:
        raise not_utf8(_broken(path)[0] or path, error) from error
    except RuntimeError as error:
        if "scripts" not in str(error):
            raise
        fix = "look for a copy of it in Parquet (of deepmind/pg19: emozilla/pg19)"
        raise StrataError(f"{name} is a script, and code of others is not run here: {fix}, {file}") from error
    except (ValueError, OSError, httpx.HTTPError) as error:
        if path.exists() or isinstance(error, ValueError | FileNotFoundError):
            raise _unreadable(source, error) from error
        fix = "check the connection, unset HF_HUB_OFFLINE if it is set, HF_ENDPOINT names a mirror"
        raise StrataError(f"cannot reach the data set {name} on the hub ({one_line(error)}): {fix}, {file}") from error


def _unreadable(source: Source, error: Exception) -> StrataError:
    """What is wrong with a data set that is there: its configuration, else its content."""
    from datasets import get_dataset_config_names

    name, path = source.name, source.path
    names = [] if path.is_file() else get_dataset_config_names(str(path.resolve()) if path.is_dir() else name)
    if source.configuration and names and source.configuration not in names:
        return unknown(f"configuration of {name}", source.configuration, names)
    if "Config name is missing" in str(error):
        return StrataError(f"{name} has several configurations: name one of {', '.join(names)}, as in {name}:{names[0]}")
    file, line = _broken(path)
    if file:
        return StrataError(f'{file}, line {line}, is not JSON: one object a line is expected, such as {{"text": "..."}}')
    return StrataError(f"cannot read {name} as {path.suffix or 'a data set'}: {one_line(error)}")


def _broken(path: Path) -> tuple[Path | None, int]:
    """The first line of JSON lines that is not JSON in UTF-8, for a file or a folder of them."""
    for file in files(path, [".jsonl"]) if path.is_dir() else [path] if path.suffix == ".jsonl" else []:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    json.loads(line.strip() or "0")
                except ValueError:
                    return file, number
    return None, 0


def files(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in suffixes)


def not_utf8(path: Path, error: UnicodeDecodeError) -> StrataError:
    fix = f"convert it with `iconv -f ENCODING -t UTF-8 {path} > NEW` (of Chinese texts many are GB18030)"
    return StrataError(f"{path} is not UTF-8 ({error.reason}): {fix}")
