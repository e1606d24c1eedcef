"""Corpora in one file of every kind, compressed or not. The reference reads it with the standard library and Arrow, and slowly."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from analysis.data.documents import documents
from analysis.data.reading import Reading
from analysis.data.sources import selection
from tests.fuzz.core import Kind
from tests.fuzz.mutations import raw, shuffled_lines
from tests.fuzz.verdicts import Unread, Wrong

TEXTS = [f'{i} documents, "quoted", and; more|\twith\nlines 第{i} \U0001f600' + "\n" * (i % 7 == 0) for i in range(40)]
LINES = [f"Line {i} of a running text.\n" for i in range(20)]  # rows that are parts of one text
ROWS = [{"n": i, "text": text, "x": [None, 1, "a", [1]][i % 4]} for i, text in enumerate([*TEXTS, *LINES, "", "  ", TEXTS[3]])]


def _table(delimiter: str) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter)
    writer.writerows([["n", "text"], *([row["n"], row["text"]] for row in ROWS)])
    return file.getvalue().encode()


def _parquet(dictionary: bool, **options: Any) -> bytes:
    texts = pa.array([row["text"] for row in ROWS])
    file = io.BytesIO()
    table = pa.table({"n": range(len(ROWS)), "text": texts.dictionary_encode() if dictionary else texts})
    parquet.write_table(table, file, row_group_size=17, **options)
    return file.getvalue()


def _arrow(codec: str, magic: bytes) -> tuple[bytes, Callable[[bytes], bytes], Callable[[bytes], bytes]]:
    def pack(data: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, codec) as stream:
            stream.write(data)
        return sink.getvalue().to_pybytes()

    return magic, pack, lambda data: pa.CompressedInputStream(pa.BufferReader(data), codec).read()


PACKERS: dict[str, tuple[bytes, Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {  # first bytes, how to pack and unpack
    ".gz": (b"\x1f\x8b", gzip.compress, gzip.decompress),
    ".bz2": (b"BZh", bz2.compress, bz2.decompress),
    ".xz": (b"\xfd7zXZ\0", lzma.compress, lzma.decompress),
    ".zst": _arrow("zstd", b"\x28\xb5\x2f\xfd"),
    ".lz4": _arrow("lz4", b"\x04\x22\x4d\x18"),
}
FILES: dict[str, bytes] = {
    "a.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
    "b.ndjson": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode(),
    "c.json": json.dumps(ROWS, indent=1).encode(),
    "d.CSV": _table(","),
    "e.csv": _table(";"),
    "f.tsv": _table("\t"),
    "g.txt": "\n".join(TEXTS).encode(),
    "h.parquet": _parquet(dictionary=False, write_page_checksum=True),
    "i.parquet": _parquet(dictionary=True, compression="gzip", write_page_checksum=True),
}
FILES |= {name + end: PACKERS[end][1](FILES[name]) for name in ("a.jsonl", "c.json", "d.CSV", "g.txt") for end in PACKERS}


def _make(root: Path) -> dict[str, list[str]]:
    for name, data in FILES.items():
        (root / name).mkdir()
        (root / name / name).write_bytes(data)
    return {name: _texts(Reading(name, selection(str(root / name)))) for name in FILES}


def _mutate(rng: Random, folder: Path, base: Any) -> str:
    """Changes what is in a file, or what it is packed into."""
    path = next(folder.iterdir())
    inside = PACKERS.get(path.suffix) if rng.random() < 0.5 else None
    data = inside[2](path.read_bytes()) if inside else path.read_bytes()
    changed, said = shuffled_lines(rng, data) if rng.random() < 0.2 else raw(rng, data)
    path.write_bytes(inside[1](changed) if inside else changed)
    return f"{'inside: ' if inside else ''}{said}"


def _texts(reading: Reading) -> list[str]:
    return [document.text for document in documents(str(reading.selection.files[0]), reading=reading)]


def _judge(folder: Path, base: list[str]) -> tuple[str, str]:
    path = next(folder.iterdir())
    reading = Reading(str(path), selection(str(path)))
    got = _texts(reading)
    try:
        wanted, why = [_documents(rows) for rows in _rows(path, reading.column or "")], ""
    except Exception as error:  # of four libraries
        wanted, why = [base], f"{type(error).__name__}: {error}"
    if got in wanted:
        return ("as before" if why else "right"), why
    raise Wrong(
        f"{len(got)} documents, {[len(want) for want in wanted]} are expected {why}; the first that differ: {_differing(got, wanted)}"
    )


def _differing(got: list[str], wanted: list[list[str]]) -> list[tuple[str, str]]:
    return [(a, b) for want in wanted for a, b in zip([*got, ""], [*want, ""], strict=False) if a != b][:1]


def _rows(path: Path, column: str) -> list[list[str | None]]:
    """The column, in every way in which the file may be read: nobody says what parts the cells of a CSV."""
    data = path.read_bytes()
    if ".parquet" in path.name:
        return [parquet.read_table(path, columns=[column]).column(0).to_pylist()]
    data = next((unpack(data) for magic, _, unpack in PACKERS.values() if data.startswith(magic)), data)
    text = data.decode("utf-8-sig")
    if "\0" in text:
        raise Unread("zero bytes")
    if ".txt" in path.name:
        return [[text.replace("\r\n", "\n").replace("\r", "\n")]]
    if "json" in path.name:
        return [[row.get(column) for row in _objects(text)]]
    return list(_cells(text, column))


def _objects(text: str) -> list[dict[str, Any]]:
    try:
        whole = json.loads(text)
    except ValueError:
        return [json.loads(line) for line in text.split("\n") if line.strip(" \t\r\n")]
    return whole if isinstance(whole, list) else [whole]


def _cells(text: str, column: str) -> Iterator[list[str | None]]:
    for delimiter in ",;|\t":
        try:
            rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if row]
        except csv.Error:
            continue
        if rows and column in rows[0] and len({len(row) for row in rows}) == 1:
            yield [row[rows[0].index(column)] for row in rows[1:]]


def _documents(rows: Iterable[str | None]) -> list[str]:
    """Rows that are lines go on, others are a text each; each text once, whatever its spaces and capitals."""
    filled = [row for row in rows if row is not None and row.strip()]
    found: dict[str, str] = {}
    for running, group in groupby(filled, lambda row: row.endswith("\n") and row.count("\n") == 1):
        for text in ["".join(group)] if running else list(group):
            found.setdefault(" ".join(text.split()).casefold(), text.strip())
    return list(found.values())


KIND = Kind(_make, _mutate, _judge)
