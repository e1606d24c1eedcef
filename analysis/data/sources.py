"""Where texts come from: the offline texts, files, folders and patterns, and data sets of the Hugging Face hub; all of them streamed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from itertools import groupby

from adapters.catalogue import PACKAGES
from adapters.errors import StrataError, unknown
from analysis.data.columns import require_prose
from analysis.data.folders import KINDS, Selection, select
from analysis.data.hub import hub_rows
from analysis.data.reading import Reading
from analysis.data.rows import Source, rows
from analysis.data.streams import blocks, lines

# Files and columns of the offline texts that hold prose. Several are benchmarks as well: see SPLITS in analysis/data/documents.py.
PROSE = (
    ("BoolQ/combined.jsonl", "passage"),
    ("MultiLexSum/test.jsonl", "document"),
    ("Quac/test.jsonl", "passage"),
    ("XSum/test.jsonl", "document"),
    ("PubMedQA/pqaa/test.jsonl", "passage"),
    ("PubMedQA/pqal/test.jsonl", "passage"),
    ("NarrativeQA/test.jsonl", "passage"),
    ("MedQA/test.jsonl", "question"),
)
FIRST = 10_000  # documents of a data set, on the hub or in a folder, that are read: no study downloads millions of rows
EXPECTED = (
    f"`texts` (offline), a text file, a file of rows ({', '.join([*KINDS][1:])}), a folder of one kind of these, a pattern in quotes, "
    "or a data set of the hub, OWNER/NAME"
)


def is_offline(corpus: str) -> bool:
    """`texts`, or a part of it by the name of its data set: `texts:XSum`."""
    return corpus.partition(":")[0] == "texts"


def first_documents(corpus: str) -> int | None:
    """How many documents of a corpus are read, in its own order; None: all."""
    if is_offline(corpus):
        return None
    source = Source.of(corpus)
    return FIRST if source.is_hub or (not os.path.isfile(source.path) and selection(corpus).kind != "text") else None


def selection(corpus: str) -> Selection:
    """The files that are read. Raises StrataError when there are none, and when it cannot be told which are meant."""
    if is_offline(corpus):
        return Selection("offline texts", ())
    source = Source.of(corpus)
    if source.is_hub:
        return Selection("data set of the hub", ())
    if not source.is_local:
        raise StrataError(f"unknown corpus {corpus!r}: expected {EXPECTED}")
    found = select(source.name, source.configuration, source.split, source.column)
    if source.column and found.kind == "text":
        raise StrataError(f"{source.name} is text, which has no columns: leave out #{source.column}, or give {', '.join([*KINDS][1:])}")
    return found


def state(corpus: str) -> tuple:
    """What changes when files of the corpus do; a data set of the hub counts as fixed while a process runs."""
    return tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in selection(corpus).files)


def texts(reading: Reading, piece: int) -> Iterator[str]:
    """The texts of a corpus, long ones in pieces of about `piece` characters; memory does not grow with the corpus.

    What is held at once is a block of a text file, a row group of Parquet, a row of JSON lines or CSV, or a whole list of JSON;
    of a data set of the hub it may be one of its files, which Arrow reads ahead. Counts rows in `reading`.
    """
    if is_offline(reading.corpus):
        yield from _offline_texts(reading)
        return
    source = Source.of(reading.corpus)
    if reading.kind == "text":
        for file in reading.selection.files:
            require_prose(file)
            yield from _counted_file(blocks(file), piece, reading)
    else:
        held = hub_rows(source, reading) if source.is_hub else rows(source, reading)
        for part in _joined(_filled(held, reading)):
            yield from _counted(part, piece, reading)


def _counted_file(text: Iterable[str], piece: int, reading: Reading) -> Iterator[str]:
    reading.rows += 1
    before = reading.pieces
    yield from _counted(text, piece, reading)
    reading.empty += reading.pieces == before


def _counted(text: Iterable[str], piece: int, reading: Reading) -> Iterator[str]:
    """The pieces of one text."""
    reading.piece = piece
    for n, part in enumerate(_pieces(text, piece)):
        reading.texts += not n
        reading.pieces += 1
        yield part


def _filled(rows: Iterable[str | None], reading: Reading) -> Iterator[str]:
    """Those that hold a text."""
    for row in rows:
        reading.rows += 1
        if row is not None and row.strip():
            yield row
        else:
            reading.empty += 1


def _joined(rows: Iterator[str]) -> Iterator[Iterable[str]]:
    """A row is a text. Rows that are single lines, newline and all, are one running text, as those of WikiText are."""
    for running, group in groupby(rows, key=lambda row: row.find("\n") == len(row) - 1):
        if running:
            yield group
        else:
            yield from ([row] for row in group)


def _offline_texts(reading: Reading) -> Iterator[str]:
    """Passages, each once: the same one comes back with other questions, and a little differently (`opening`)."""
    part = reading.corpus.partition(":")[2]
    names = {file.partition("/")[0] for file, _ in PROSE}
    if part and part not in names:
        raise unknown("part of texts", part, names)
    folder, seen = PACKAGES["texts"].folder("texts") / "data", set[bytes]()
    for file, column in [(file, column) for file, column in PROSE if not part or file.startswith(f"{part}/")]:
        for line in lines(folder / file):
            reading.rows, reading.texts, reading.pieces = (n + 1 for n in (reading.rows, reading.texts, reading.pieces))
            text = json.loads(line)[column].strip()  # one is empty: no window is found in it, and the zoo's hash of its text covers it
            if (start := opening(text)) in seen:
                reading.repeated += 1
            else:
                seen.add(start)
                yield text


def opening(text: str) -> bytes:
    """Stands for a passage of the offline texts, of which Quac and BoolQ hold editions that differ by a few words behind it.

    Were these two documents, one could be trained on and the other held out. No text of others is compared like this: there are
    licences, instructions and prefaces that many documents begin with.
    """
    return hashlib.sha256(" ".join(text[:200].split()).casefold()[:100].encode()).digest()


def _pieces(blocks: Iterable[str], size: int) -> Iterator[str]:
    """A running text in pieces of about `size` characters, cut at a line's end where there is one; whatever its length."""
    held = ""
    for block in blocks:
        held += block
        at = 0
        while len(held) - at > 2 * size:
            end = held.rfind("\n", at + size // 2, at + size) + 1 or at + size
            if piece := held[at:end].strip():
                yield piece
            at = end
        held = held[at:]
    if held.strip():
        yield held.strip()
