"""One column of a file of rows, as text: Parquet by Arrow, JSON and CSV by the standard library, in bounded memory.

Only the column that is asked for is looked at: what others hold, and whether it changes, is of no concern.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from adapters.errors import StrataError, one_line
from analysis.data.folders import kind_of
from analysis.data.streams import lines, not_utf8, require_parquet

BATCH = 64  # rows that are Python strings at once
FIRST_ROWS = 64  # from which it is told what JSON and CSV hold
LONGEST = 1 << 28  # characters of a cell; a quote that is never closed would take the rest of the file
TEXT, NULL = "text", "null"  # what a column can be to be read
JSON_KINDS = {str: TEXT, type(None): NULL, bool: "true or false", float: "number", list: "list", dict: "object"}
DELIMITERS = ",;\t|"

Placed = tuple[str, Any]  # where in its file something stands ("line 3"), and what stands there


class Format(NamedTuple):
    kinds: Callable[[Path], dict[str, str]]  # of the columns by name; {} of a file without rows
    values: Callable[[Path, str], Iterator[Placed]]  # of one of them


def columns(path: Path) -> dict[str, str]:
    """Names of the columns, and what they hold: `text`, `null` (nothing as yet), or something else. Raises StrataError as `texts`."""
    return FORMATS[str(kind_of(path))].kinds(path)


def texts(path: Path, column: str) -> Iterator[str | None]:
    """The column, row by row; None where it has no value.

    Raises StrataError for a file that is not what its ending says, and for a value that is not text, with its place.
    """
    for place, value in FORMATS[str(kind_of(path))].values(path, column):
        if value is not None and not isinstance(value, str):
            kind = JSON_KINDS.get(type(value), type(value).__name__)
            raise StrataError(f"column {column!r} of {path}, {place}, is not text but {kind}: text or null is expected in every row")
        if value is not None and (half := half_a_character(value)):
            raise StrataError(f"{path}, {place}: the text holds {half}, half of a character, which no encoding has: replace or drop it")
        yield value


def require_prose(path: Path) -> None:
    """Raises StrataError for a file of text that holds JSON lines."""
    first = next((line for line in lines(path) if line.strip()), "")
    try:
        rows = first.lstrip().startswith("{") and isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return
    if rows:
        raise StrataError(f"{path} holds JSON lines, and its name does not say so: end it in .jsonl, and one column of them is read")


def half_a_character(text: str) -> str | None:
    """A lone surrogate, as JSON writes it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"\\u{ord(text[error.start]):04x}"
    return None


def objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of JSON: an object a line, or a list of objects. Numbers are floats."""
    found = ((n, line) for n, line in enumerate(lines(path), 1) if line.strip(" \t\r\n"))
    n, first = next(found, (0, ""))
    if first.lstrip().startswith("["):
        whole = _parsed(path, "", first + "".join(line for _, line in found))
        yield from ((f"item {i}", _object(path, f"item {i}", item)) for i, item in enumerate(whole))
        return
    for number, line in chain([(n, first)] if first else [], found):
        place = f"line {number}"
        yield place, _object(path, place, _parsed(path, place, line))


def _parsed(path: Path, place: str, text: str) -> Any:
    at = f"{path}, {place}," if place else str(path)
    try:
        return json.loads(text, parse_int=float)  # integers of any length
    except RecursionError as error:
        raise StrataError(f"{at} is nested too deeply: lists and objects in some hundred others are not read") from error
    except ValueError as error:
        said = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else one_line(error)
        raise StrataError(f'{at} is not JSON ({said}): one object a line is expected, such as {{"text": "..."}}, or a list') from error


def _object(path: Path, place: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        kind = JSON_KINDS.get(type(value), "something else")
        raise StrataError(f'{path}, {place}, is {kind}, not an object: one object a line is expected, such as {{"text": "..."}}, or a list')
    return value


def _json_kinds(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for _, row in islice(objects(path), FIRST_ROWS):
        for name, value in row.items():
            kind = JSON_KINDS[type(value)]
            found[name] = kind if found.get(name, NULL) in (NULL, kind) else found[name] if kind == NULL else "of several kinds"
    return found


def _json_values(path: Path, column: str) -> Iterator[Placed]:
    return ((place, row.get(column)) for place, row in objects(path))


def cells(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Of a file with commas or tabs: the header, then rows of as many cells. Raises StrataError for a row with more or fewer."""
    delimiter, width, line = _delimiter(path), 0, 0
    csv.field_size_limit(LONGEST)
    reader = csv.reader(lines(path, ""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            place, line = f"line {line + 1}", reader.line_num
            if row and width and len(row) != width:
                fix = f"put cells that hold a {_spelled(delimiter)} or a line's end in double quotes"
                raise StrataError(f"{path}, {place}, has {len(row)} cells, and the header {width}: {fix}")
            width = width or len(row)
            if row:
                yield place, row
    except csv.Error as error:
        raise StrataError(f"{path}, line {line + 1}, is not {kind_of(path)} ({one_line(error)}): in quotes, a quote is doubled") from error


def _delimiter(path: Path) -> str:
    """That of the header: the one that the kind of file has or, where the header holds none of those, the only other."""
    own = "\t" if kind_of(path) == "TSV" else ","
    header = next((line for line in lines(path, "") if line.strip()), "")
    parted = {delimiter: _names(header, delimiter) for delimiter in DELIMITERS}
    found = [delimiter for delimiter, names in parted.items() if len(names) > 1 and not any('"' in name for name in names)]
    if len(found) > 1:
        could = " or ".join(map(_spelled, found))
        raise StrataError(f"the header of {path} could be parted by {could}: put names that hold one of them in double quotes")
    return found[0] if found else own


def _names(header: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([header], delimiter=delimiter), [])
    except csv.Error:
        return []


def _spelled(delimiter: str) -> str:
    return {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}[delimiter]


def _csv_kinds(path: Path) -> dict[str, str]:
    rows = cells(path)
    _, header = next(rows, ("", []))
    if double := next((name for name in header if header.count(name) > 1), None):
        raise StrataError(f"the header of {path} has the column {double!r} twice: give each its own name")
    held = list(islice((row for _, row in rows), FIRST_ROWS))
    return {name: _csv_kind([row[i] for row in held if row[i].strip()]) for i, name in enumerate(header)}


def _csv_kind(values: list[str]) -> str:
    return NULL if not values else "number" if all(map(is_number, values)) else TEXT


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _csv_values(path: Path, column: str) -> Iterator[Placed]:
    rows = cells(path)
    _, header = next(rows)
    i = header.index(column)
    return ((place, row[i]) for place, row in rows)


@contextmanager
def parquet(path: Path) -> Iterator[Any]:
    """The open file. Raises StrataError for what is none, and for what is wrong with it while it is open."""
    import pyarrow as pa  # not at the top: few corpora are Parquet
    from pyarrow.parquet import ParquetFile

    require_parquet(path)
    try:
        with ParquetFile(path) as file:
            yield file
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error
    except (pa.ArrowException, OSError) as error:
        raise StrataError(f"cannot read {path} as Parquet: {one_line(error)}; if it is damaged, fetch or make it again") from error


def _parquet_kinds(path: Path) -> dict[str, str]:
    with parquet(path) as file:
        return {field.name: arrow_kind(field.type) for field in file.schema_arrow}


def arrow_kind(of: Any) -> str:
    """`text` for strings and categories of strings (pandas), `null`, or the type in Arrow's words."""
    from pyarrow import types

    value = of.value_type if types.is_dictionary(of) else of
    is_text = types.is_string(value) or types.is_large_string(value) or types.is_string_view(value)
    return TEXT if is_text else str(of)


def _parquet_values(path: Path, column: str) -> Iterator[Placed]:
    with parquet(path) as file:
        if file.schema_arrow.names.count(column) != 1:
            raise StrataError(f"{path} has the column {column!r} twice: give each its own name")
        n = 0
        for batch in file.iter_batches(batch_size=BATCH, columns=[column]):
            for value in batch.column(batch.schema.names.index(column)).to_pylist():
                yield f"row {n}", value
                n += 1


FORMATS: Mapping[str, Format] = {
    "Parquet": Format(_parquet_kinds, _parquet_values),
    "JSON lines": Format(_json_kinds, _json_values),
    "JSON": Format(_json_kinds, _json_values),
    "CSV": Format(_csv_kinds, _csv_values),
    "TSV": Format(_csv_kinds, _csv_values),
}
