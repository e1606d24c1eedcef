"""Rows of files. What is wrong with one is an error that names the file and the place in it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from adapters.errors import StrataError, one_line
from analysis.data.columns import half_a_character
from analysis.data.streams import blocks

Row = dict[str, Any]
Splits = dict[str, list[Row]]
Reader = Callable[[Path, str], Splits]  # folder and configuration -> rows by split
Placed = Iterator[tuple[str, Any]]  # where in its file something stands ("line 3"), and what stands there
VALIDATION, TEST = ("dev", "val"), ("test",)  # what names of files say of the split that is asked


def found(folder: Path, *patterns: str) -> list[Path]:
    return [path for pattern in patterns for path in sorted(folder.glob(pattern))]


def rows(paths: Iterable[Path], make: Callable[[Any], Row], parse: Callable[[Path], Placed]) -> list[Row]:
    """`make` of each that `parse` finds in the files, all of one shape.

    Raises StrataError with file and place where `make` does not understand it, for null, and for a text where others have a number.
    """
    out: list[Row] = []
    first: object = None
    for path in paths:
        for where, held in parse(path):
            try:
                out.append(make(held))
                first = _joined(first, _shape(out[-1]))
            except (KeyError, ValueError, IndexError, TypeError, AttributeError, OverflowError) as error:
                has = ", ".join(map(str, held)) if isinstance(held, dict) else _count(held)
                raise StrataError(f"{path}, {where}: {type(error).__name__} {one_line(error)}; it has {has[:120]}") from error
    return out


def _shape(value: object) -> object:
    """What a value is made of: the type of a leaf, of a list the shape of what it holds (None when it is empty)."""
    if value is None:
        raise ValueError("null where a value is expected")
    if isinstance(value, dict):
        return {name: _shape(held) for name, held in value.items()}
    if isinstance(value, list):
        return [reduce(_joined, map(_shape, value), None)]
    return type(value)


def _joined(a: Any, b: Any) -> Any:
    """The shape of values of both shapes. Raises ValueError where there is none."""
    if a is None or b is None:
        return a if b is None else b
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return {name: _joined(a[name], b[name]) for name in a}
    if isinstance(a, list) and isinstance(b, list):
        return [_joined(a[0], b[0])]
    if a != b:
        raise ValueError(f"{_kind(b)} where others have {_kind(a)}")
    return a


def _kind(shape: object) -> str:
    return shape.__name__ if isinstance(shape, type) else f"the keys {', '.join(shape)}" if isinstance(shape, dict) else "list"


def _count(held: object) -> str:
    return f"{len(held)} columns" if isinstance(held, list) else f"the text {str(held)!r}"


def read(path: Path) -> str:
    """The whole text, compressed or not. Raises StrataError for what holds none."""
    return "".join(blocks(path))


def lines(path: Path) -> Placed:
    """Those that are not empty."""
    return ((f"line {n}", line) for n, line in enumerate(read(path).split("\n"), 1) if line.strip())


def objects(path: Path) -> Placed:
    """JSON: one a line, or a list of them."""
    if read(path).lstrip().startswith("["):
        yield from items(path)
        return
    for where, line in lines(path):
        yield where, _parsed(path, where, line)


def items(path: Path, key: str | None = None) -> Placed:
    """Of a JSON list, or of the list that an object holds as `key`."""
    whole = _parsed(path, "", read(path))
    listed = whole.get(key) if key and isinstance(whole, dict) else whole
    if not isinstance(listed, list):
        raise StrataError(f"{path} holds no list{f' {key!r}' if key else ''}")
    return ((f"item {n}", item) for n, item in enumerate(listed))


def whole(path: Path) -> Placed:
    """A file that is one JSON object."""
    yield "", _parsed(path, "", read(path))


def table(path: Path) -> Placed:
    """Of a file with commas: lists of cells, a header among them."""
    reader = csv.reader(io.StringIO(read(path), newline=""), strict=True)
    try:
        yield from ((f"line {reader.line_num}", cells) for cells in reader if cells)
    except csv.Error as error:
        raise StrataError(f"{path}, line {reader.line_num}: {one_line(error)}") from error


def _parsed(path: Path, where: str, text: str) -> Any:
    place = f"{path}{f', {where}' if where else ''}"
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StrataError(f"{place}: {one_line(error)}") from error
    if "\\ud" in text.lower() and (half := half_a_character(json.dumps(found, ensure_ascii=False))):
        raise StrataError(f"{place} holds {half}, half of a character, which no encoding has: replace or drop it")
    return found


def splits(asked: Sequence[Row], train: Sequence[Row] = ()) -> Splits:
    """Without rows to train on, tasks that name such a split get those that are asked: `load_tasks` takes no examples from them."""
    return {"train": list(train or asked), "validation": list(asked), "test": list(asked)}


def jsonl(folder: Path, make: Callable[[Row], Row], asked: tuple[str, ...], *patterns: str) -> Splits:
    """Of files with a JSON object a line, or a list of them. The default of `patterns` is *.jsonl."""
    paths = found(folder, *(patterns or ("*.jsonl",)))
    train = [path for path in paths if "train" in path.name.lower()]
    others = [path for path in paths if path not in train]
    named = [path for path in others if any(word in path.name.lower() for word in asked)]
    return splits(rows(named or others, make, objects), rows(train, make, objects))
