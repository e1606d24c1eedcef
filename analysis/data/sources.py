"""Where texts come from: the offline texts, files and folders, and data sets of the Hugging Face hub; all of them streamed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path

from adapters.catalogue import PACKAGES
from adapters.errors import StrataError, unknown
from analysis.data.rows import ROWS, Source, files, not_utf8, rows

# Files and columns of the offline texts that hold prose. Several are benchmarks as well: see SPLITS in analysis/corpora.
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
    "`texts` (offline), a text file, a folder of .txt files, a .parquet, .jsonl, .json or .csv file, or a data set of the hub, OWNER/NAME"
)


def is_offline(corpus: str) -> bool:
    """`texts`, or a part of it by the name of its data set: `texts:XSum`."""
    return corpus.partition(":")[0] == "texts"


def first_documents(corpus: str) -> int | None:
    """How many documents of a corpus are read, in its own order; None: all."""
    return FIRST if not is_offline(corpus) and Source.of(corpus).is_data_set else None


def state(corpus: str) -> tuple:
    """What changes when files of the corpus do; a data set of the hub counts as fixed while a process runs."""
    path = Source.of(corpus).path
    found = [] if is_offline(corpus) else [path] if path.is_file() else files(path, (".txt", *ROWS))
    return tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in found)


def texts(corpus: str, piece: int) -> Iterator[str]:
    """The texts of a corpus, long ones in pieces of about `piece` characters; memory does not grow with the corpus.

    What is held at once is a block of a text file, a row group of Parquet, 10 MB of JSON lines, 10,000 rows of CSV, or a
    whole .json array; of a data set it may be one of its files, which Arrow reads ahead.
    """
    if is_offline(corpus):
        yield from _offline_texts(corpus.partition(":")[2])
        return
    source = Source.of(corpus)
    for blocks in _joined(rows(source)) if source.has_rows else _text_files(source):
        yield from _pieces(blocks, piece)


def _joined(rows: Iterator[str]) -> Iterator[Iterable[str]]:
    """A row is a text. Rows that are single lines, newline and all, are one running text, as those of WikiText are."""
    for lines, group in groupby(filter(str.strip, rows), key=lambda row: row.find("\n") == len(row) - 1):
        if lines:
            yield group
        else:
            yield from ([row] for row in group)


def _text_files(source: Source) -> Iterator[Iterable[str]]:
    path = source.path
    if source.configuration or source.split or source.column or not path.exists():
        raise StrataError(f"unknown corpus {str(source)!r}: expected {EXPECTED}")
    found = files(path, [".txt"]) if path.is_dir() else [path]
    if not found:
        raise StrataError(f"the folder {path} holds no .txt files, and no {', '.join(ROWS)} files")
    yield from map(_blocks, found)


def _offline_texts(part: str) -> Iterator[str]:
    names = {file.partition("/")[0] for file, _ in PROSE}
    if part and part not in names:
        raise unknown("part of texts", part, names)
    folder = PACKAGES["texts"].folder("texts") / "data"
    for file, column in [(file, column) for file, column in PROSE if not part or file.startswith(f"{part}/")]:
        with (folder / file).open(encoding="utf-8") as lines:
            yield from (json.loads(line)[column].strip() for line in lines)


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


def _blocks(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            read: Callable[[], str] = lambda: file.read(1 << 16)  # noqa: E731
            yield from iter(read, "")
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error
    except OSError as error:
        raise StrataError(f"cannot read {path}: {error.strerror}") from error
