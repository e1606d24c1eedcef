"""The header of a GGUF file. No number in it is believed before it has been held against the size of the file."""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite, prod
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from adapters.errors import StrataError

T = TypeVar("T", int, float, str, bool, list)
SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))  # type of a value -> struct code
STRING, ARRAY = 8, 9
NOUNS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", list: "a list"}


class Entry(NamedTuple):
    """Where a tensor stands."""

    file: Path
    shape: tuple[int, ...]  # rows first, as in torch; in the file it is the other way round
    kind: int  # gguf.GGMLQuantizationType
    start: int  # bytes from the beginning of the file
    nbytes: int


@dataclass(frozen=True, slots=True)
class Header:
    path: Path
    values: dict[str, Any]
    tensors: dict[str, Entry]

    def value(self, key: str, kind: type[T], default: T | None = None) -> T:
        """Raises StrataError when it is of another kind, or is not there and there is no default."""
        found = self.values.get(key, default)
        if found is None:
            raise StrataError(f"{self.path} has no {key} in its header: the file is damaged, or is no language model")
        if kind is float and type(found) is int:
            found = float(found)
        if type(found) is not kind or (isinstance(found, float) and not isfinite(found)):
            raise StrataError(f"{self.path}: {key} is {found!r:.60}, expected {NOUNS[kind]}: the file is damaged; download it again")
        return found


PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")


def name_of(path: Path) -> str:
    """The name of a model: that of its file, without the number of the part."""
    match = PART.fullmatch(path.name)
    return match[1] if match else path.stem


def parts(path: Path) -> list[Path]:
    """The files of a model that may be split: all that the name NAME-00001-of-0000N.gguf speaks of, whether they are there or not."""
    match = PART.fullmatch(path.name)
    if not match or not 1 <= int(match[2]) <= int(match[3]):
        return [path]
    return [path.with_name(f"{match[1]}-{i:05}-of-{match[3]}.gguf") for i in range(1, int(match[3]) + 1)]


def read_header(path: Path) -> Header:
    """The header of a file, or of all parts of a split model when `path` is one of them. Raises StrataError."""
    found = _read(path)
    count = found.value("split.count", int, 1)
    if count <= 1:
        return found
    files = parts(path)
    if len(files) != count:
        raise StrataError(
            f"{path} is one of the {count} parts of a model (split.count): give the part NAME-00001-of-{count:05}.gguf, with all others "
            "beside it under their own names"
        )
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise StrataError(f"{path.parent} lacks {len(missing)} of the {count} parts of the model ({missing[0]}): download them all")
    return _joined([_read(file) for file in files])


def _joined(headers: list[Header]) -> Header:
    first, tensors = headers[0], dict[str, Entry]()
    for i, header in enumerate(headers):
        own = {key: value for key, value in header.values.items() if key != "split.no"}
        if header.value("split.no", int) != i or any(first.values.get(key) != value for key, value in own.items()):
            raise StrataError(f"{header.path} is not part {i + 1} of the model that {first.path.name} begins: download all parts again")
        if twice := sorted(tensors.keys() & header.tensors.keys()):
            raise StrataError(f"{header.path} holds {twice[0]}, which another part holds too: download all parts again")
        tensors |= header.tensors
    if (n := first.value("split.tensors.count", int)) != len(tensors):
        raise StrataError(
            f"{first.path}: its {len(headers)} parts hold {len(tensors)} tensors, split.tensors.count says {n}: download again"
        )
    return Header(first.path, first.values, tensors)


def _read(path: Path) -> Header:
    try:
        with path.open("rb") as file:
            if path.stat().st_size < 24:
                raise StrataError(f"{path} is too short for a GGUF file ({path.stat().st_size} bytes): download it again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Cursor(path, data).header()
    except OSError as error:
        raise StrataError(f"cannot read {path}: {error.strerror or error}") from error


class _Cursor:
    """Walks through a header."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data, self.at = path, data, 0

    def damaged(self, what: str) -> StrataError:
        return StrataError(f"{self.path} is truncated or damaged: {what}; download it again")

    def header(self) -> Header:
        if self.data[:12] == b"version http":
            raise StrataError(f"{self.path} is only a pointer of git LFS: run `git lfs pull`, or download the file itself")
        if self.take(4) != b"GGUF":
            raise StrataError(f"{self.path} is not a GGUF file: it begins with {self.data[:4]!r}, expected b'GGUF'; download it again")
        version = self.number("I")
        if version & 0xFFFF == 0:
            raise StrataError(f"{self.path} is a big-endian GGUF file: only little-endian ones are read; convert it again")
        if version not in (2, 3):
            raise StrataError(f"{self.path} is GGUF of version {version}: versions 2 and 3 are read; convert it again")
        n_tensors, n_values = self.number("Q"), self.number("Q")
        values: dict[str, Any] = {}
        for _ in range(n_values):
            key = self.text()
            if key in values:
                raise self.damaged(f"its header holds {key!r:.60} twice")
            values[key] = self.value(self.number("I"))
        infos = list(self.infos(n_tensors))
        return Header(self.path, values, self.placed(infos, values))

    def infos(self, n: int) -> Iterator[tuple[str, tuple[int, ...], int, int]]:
        """Name, shape, kind and offset of each tensor."""
        for _ in range(n):
            name, axes = self.text(), self.number("I")
            if not 1 <= axes <= 4:
                raise self.damaged(f"its tensor {name!r:.60} has {axes} axes")
            shape = tuple(self.number("Q") for _ in range(axes))[::-1]
            yield name, shape, self.number("I"), self.number("Q")

    def placed(self, infos: list[tuple[str, tuple[int, ...], int, int]], values: dict[str, Any]) -> dict[str, Entry]:
        """Entries by name, when the tensors follow each other without gaps, as they must, up to the end of the file."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        align = values.get("general.alignment", 32)
        if type(align) is not int or align < 1 or align & (align - 1):
            raise self.damaged(f"general.alignment is {align!r:.60}, expected a power of two")
        start = self.at + -self.at % align
        tensors, end = {}, 0
        for name, shape, kind, offset in infos:
            if kind not in set(GGMLQuantizationType):
                raise StrataError(
                    f"{self.path}: its tensor {name!r:.60} is of the unknown type {kind}: the file is damaged, or `gguf` too old"
                )
            block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
            if min(shape) < 1 or shape[-1] % block or name in tensors:
                raise self.damaged(f"its tensor {name!r:.60} has the shape {shape} or is there twice")
            nbytes = prod(shape) // block * size
            if offset != end + -end % align:
                raise self.damaged(f"its tensor {name!r:.60} begins at byte {offset} of the data, expected {end + -end % align}")
            tensors[name] = Entry(self.path, shape, kind, start + offset, nbytes)
            end = offset + nbytes
        size, last = len(self.data), start + end
        if not last <= size <= last + -last % align:
            raise self.damaged(f"it has {size} bytes, its header says {last}")
        return tensors

    def take(self, n: int) -> bytes:
        if n > len(self.data) - self.at:
            raise self.damaged("its header continues past its end")
        self.at += n
        return self.data[self.at - n : self.at]

    def number(self, code: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def text(self) -> str:
        raw = self.take(self.number("Q"))
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self.damaged(f"its header holds {raw[:20]!r}, which is not UTF-8") from None

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.text()
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind != ARRAY:
            raise self.damaged(f"its header holds a value of the unknown type {kind}")
        inner, n = self.number("I"), self.number("Q")
        if inner in SCALARS:
            return np.frombuffer(self.take(n * struct.calcsize("<" + SCALARS[inner])), "<" + SCALARS[inner]).tolist()
        if inner != STRING:
            raise self.damaged(f"its header holds a list of the type {inner}")
        return [self.text() for _ in range(n)]
