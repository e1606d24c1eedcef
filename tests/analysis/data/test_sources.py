"""The same texts come from every kind of file and from folders laid out as on the hub, in bounded memory; else a helpful error."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import datasets
import pyarrow as pa
import pytest

from adapters import StrataError
from adapters.families.rwkv.tokenizers import ByteTokenizer, WorldTokenizer
from adapters.tokenizers import JsonTokenizer, Tokenizer
from analysis.data import sources
from analysis.data.batches import Text
from analysis.data.documents import PIECE, documents, sample
from analysis.data.hub import explained
from analysis.data.rows import Source
from tests.analysis.data.makers import TEXTS, read, table, write
from tests.shared_data import shared

ROOT = Path(__file__).parents[3]
BYTES = ByteTokenizer()


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize(
    ("corpus", "source"),
    [
        ("emozilla/pg19", Source("emozilla/pg19")),
        ("Salesforce/wikitext:wikitext-103-raw-v1", Source("Salesforce/wikitext", "wikitext-103-raw-v1")),
        ("owner/name:configuration:test", Source("owner/name", "configuration", "test")),
        ("owner/name::validation", Source("owner/name", None, "validation")),
        ("owner/name#body", Source("owner/name", column="body")),
        ("owner/name:zh:test#content", Source("owner/name", "zh", "test", "content")),
        ("articles.jsonl#the body", Source("articles.jsonl", column="the body")),
    ],
)
def test_syntax(corpus: str, source: Source) -> None:
    assert Source.of(corpus) == source
    assert str(source) == corpus
    assert source.is_hub == ("/" in corpus)


def test_a_path_may_hold_the_signs_of_the_syntax(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a:b[1]#c.jsonl", table())) == TEXTS
    assert read(f"{write(tmp_path / 'a[b]*.jsonl', table(column='body'))}#body") == TEXTS
    (tmp_path / "a:b#c.txt").write_text("Running text.")
    assert read(tmp_path / "a:b#c.txt") == ["Running text."]


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.json", "a.csv"])
def test_files_of_rows_hold_the_same_documents(name: str, tmp_path: Path) -> None:
    assert read(write(tmp_path / name, table())) == TEXTS
    assert read(f"{write(tmp_path / 'other' / name, table(column='body'))}") == TEXTS, "the only column of strings"
    two = [row | {"title": "Chapter"} for row in table(column="body")]
    assert read(f"{write(tmp_path / 'two' / name, two)}#body") == TEXTS
    assert read(tmp_path / "other") == TEXTS, "a folder with one file is a data set"


def test_missing_values_and_repetitions_are_passed_over(tmp_path: Path) -> None:
    rows = [{"text": None}, {"text": "  \n"}, {"n": 1}, {"text": "One."}, {"text": "one. "}, {"text": "Two."}]
    assert read(write(tmp_path / "a.jsonl", rows)) == ["One.", "Two."]
    assert read(write(tmp_path / "a.parquet", [{"text": row.get("text")} for row in rows])) == ["One.", "Two."]


def test_of_a_data_set_the_first_documents_are_read(tmp_path: Path) -> None:
    many = write(tmp_path / "many" / "a.parquet", table([f"{i} and so on" for i in range(sources.FIRST + 50)]))
    assert len(read(many)) == sources.FIRST + 50
    assert read(many.parent) == [f"{i} and so on" for i in range(sources.FIRST)]
    assert Text(str(many.parent)).identity["first_documents"] == sources.FIRST, "the manifest says so"
    assert "first_documents" not in Text(str(many)).identity | Text().identity
    assert Text("emozilla/pg19").identity["first_documents"] == sources.FIRST
    with pytest.raises(StrataError, match=r"held-out part of the first 10,000 documents of the corpus .* has 0 documents of 64 tokens"):
        sample(str(many.parent), 3, 64, BYTES)


def test_lines_are_running_text(tmp_path: Path) -> None:
    """As WikiText has it: a row is a line with its end, or empty. Other rows stay apart, whatever their length."""
    lines = [line for i in range(300) for line in (f" = Title {i} = \n", "", f" {i} " + "some words and " * 30 + "\n")]
    found = read(write(tmp_path / "a.jsonl", [{"text": line} for line in lines]))
    assert "".join("".join(found).split()) == "".join("".join(lines).split())
    assert all(PIECE // 2 < len(text) <= 2 * PIECE for text in found[:-1])
    assert len(sample(str(tmp_path / "a.jsonl"), 5, 512, BYTES)) == 5
    mixed = ["A document.", "line 1\n", "line 2\n", "A second document,\nof two lines.\n", "line 3\n"]
    assert read(write(tmp_path / "b.jsonl", [{"text": row} for row in mixed])) == [
        "A document.", "line 1\nline 2", "A second document,\nof two lines.", "line 3",
    ]  # fmt: skip


def test_books_come_in_pieces(tmp_path: Path) -> None:
    books = ["\n".join(f"Book {b}, line {i}, which goes on for a while." for i in range(4000)) for b in range(3)]
    found = read(write(tmp_path / "books.parquet", table(books)))
    assert "".join("".join(found).split()) == "".join("".join(books).split())
    assert all(len({line.split(",")[0] for line in text.splitlines()}) == 1 for text in found), "no piece holds two books"
    assert max(map(len, found)) <= 2 * PIECE


def peak(corpus: Path) -> tuple[int, int]:
    """Bytes of documents read, and the most that Python and Arrow held meanwhile."""
    read, arrow = 0, 0
    tracemalloc.start()
    for document in documents(str(corpus)):
        read += len(document.text)
        arrow = max(arrow, pa.total_allocated_bytes())
    held = tracemalloc.get_traced_memory()[1] + arrow
    tracemalloc.stop()
    return read, held


@pytest.mark.parametrize("name", ["a.txt", "a.parquet", "a.csv", "a.jsonl", "a.jsonl.gz"])
def test_memory_does_not_grow_with_the_corpus(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.data.documents.REMEMBERED", 100)
    held = []
    for n in (200, 200, 2000):  # the first one imports
        texts = [f"{i} " + f"{i} and so on and on. " * 100 + "\n\n" for i in range(n)]
        path = tmp_path / name
        if name == "a.txt":
            path.write_text("".join(texts))
        else:
            write(path, [{"text": text} for text in texts])
        del texts
        gc.collect()
        size, most = peak(path)
        assert size > 0.95 * n * 2200
        held.append(most)
    assert held[2] < held[1] + 500_000


def test_errors_of_files(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "empty.csv").touch()
    write(tmp_path / "blank.jsonl", [{"text": " "}])
    (tmp_path / "bad.json").write_text("[" + json.dumps({"text": "no end"}))
    (tmp_path / "latin.jsonl").write_bytes(b'{"text": "caf\xe9"}\n')
    (tmp_path / "gb.csv").write_bytes("text,n\n天地玄黄,1\n".encode("gb18030"))
    (tmp_path / "gb.txt").write_bytes("天地玄黄，宇宙洪荒。".encode("gb18030"))
    write(tmp_path / "columns.jsonl", [{"title": "a", "body": "b", "n": 1}])
    for corpus, message in (
        ("empty.jsonl", "empty.jsonl' is empty: a corpus holds at least one text"),
        ("empty.csv", "empty.csv' is empty"),
        ("blank.jsonl", "blank.jsonl' is empty"),
        ("bad.json", "bad.json is not JSON"),
        ("latin.jsonl", "latin.jsonl is not UTF-8 .*: convert it with `iconv"),
        ("gb.csv", "gb.csv is not UTF-8 .* GB18030"),
        ("gb.txt", "gb.txt is not UTF-8 .* GB18030"),
        ("columns.jsonl", r"has no column `text`: name one of title, body, n, as in .*columns.jsonl#title"),
        ("columns.jsonl#boddy", "unknown column of .*columns.jsonl 'boddy': did you mean body"),
        ("columns.jsonl#n", "column 'n' of .*columns.jsonl is not text but number: the columns are title, body, n"),
        ("columns.jsonl:en#body", "is not a folder, and has no configurations or splits"),
        ("gb.txt#text", r"gb.txt is text, which has no columns: leave out #text, or give .parquet"),
        ("nothing.jsonl", "unknown corpus .*nothing.jsonl.*: expected `texts`"),
        ("nothing.jsonl.gz", "unknown corpus .*nothing.jsonl.gz"),
    ):
        with pytest.raises(StrataError, match=message) as error:
            read(tmp_path / corpus)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ("long" * 2000, "unknown corpus 'long.* expected `texts`"),
        ("long" * 2000 + "/*", "matches no files"),
        ("[" * 5000 + "#x", "matches no files"),
        (":" * 500, "unknown corpus"),
        ("", "unknown corpus ''"),
        ("#text", "unknown corpus '#text'"),
        ("~nobody/a.txt", "unknown corpus '~nobody/a.txt'"),
    ],
    ids=["long", "a long pattern", "brackets", "colons", "no name", "no name, a column", "of nobody"],
)
def test_names_that_no_disk_has(corpus: str, message: str) -> None:
    with pytest.raises(StrataError, match=message):
        read(corpus)


def test_without_a_network_the_hub_is_not_reached() -> None:
    read = "from analysis.data.documents import documents\ntry: next(documents('emozilla/pg19'))"
    code = f"{read}\nexcept Exception as e: print(repr(e))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True)
    assert done.stdout.startswith('StrataError("cannot reach the data set emozilla/pg19 on the hub'), done.stderr
    for hint in ("HF_HUB_OFFLINE", "HF_ENDPOINT", "give a file"):
        assert hint in done.stdout


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("The first text, of more than ten bytes.")
    first = sample(str(path), 1, 10, BYTES, split=None)
    assert sample(str(path), 1, 10, BYTES, split=None)[0] is first[0]
    path.write_text("The second one, a little longer than the first was.")
    assert sample(str(path), 1, 10, BYTES, split=None) != first


def stories(_: object) -> Tokenizer:
    return JsonTokenizer(shared("models/stories260K/tokenizer.json"))


@pytest.mark.parametrize("make", [lambda _: ByteTokenizer(), lambda _: WorldTokenizer(), stories], ids=["bytes", "world", "stories"])
def test_windows_of_chinese_books(make) -> None:
    """Characters are never cut, and a window has its tokens; a character may be three of them."""
    corpus, tokenizer = str(shared("text/books-zh") / "*.txt"), make(None)
    texts = {d.id: d.text for d in documents(corpus)}
    samples = [sample(corpus, 12, 128, tokenizer, split=split) for split in ("held-out", "calibration")]
    for window in (w for windows in samples for w in windows):
        assert window.text == texts[window.document][window.start : window.start + len(window.text)]
        assert "\ufffd" not in window.text
        assert 126 <= len(tokenizer.encode(window.text).ids) <= 130
    assert not {w.document for w in samples[0]} & {w.document for w in samples[1]}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("Dataset scripts are no longer supported"), "owner/name is a script, and code of others is not run here: .* or give"),
        (ConnectionError("no route"), r"cannot reach the data set owner/name on the hub \(no route\): check the connection"),
        (KeyError("column"), "cannot read the data set owner/name: KeyError, 'column'; download its files"),
        (pa.ArrowNotImplementedError("nested"), "cannot read the data set owner/name: ArrowNotImplementedError, nested"),
        (UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "invalid"), "cannot read the data set owner/name: UnicodeDecodeError"),
    ],
)
def test_what_the_hub_raises_is_one_line(error: Exception, message: str) -> None:
    with pytest.raises(StrataError, match=message) as found, explained(Source("owner/name")):
        raise error
    assert "\n" not in str(found.value)
