"""One column of a file of rows is read as text, whatever the others hold; the standard library and Arrow are the oracles."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from adapters import StrataError
from analysis.data.columns import cells, columns, texts
from tests.analysis.data.makers import TEXTS, read, table, write

ROW = json.dumps({"text": "A good row."}) + "\n"


def put(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_other_columns_are_of_no_concern(tmp_path: Path) -> None:
    """They change their type, are null at first, appear late, nest, and hold integers of any length."""
    others = [None, 1, "two", [3], {"four": 4}, 5.5, True, [], {}]
    rows = [{"text": text, "n": None} for text in TEXTS] + [
        {"text": f"Late {i}.", "n": other, f"m{i}": i} for i, other in enumerate(others)
    ]
    path = write(tmp_path / "a.jsonl", rows)
    with path.open("a") as file:
        file.write('{"n": ' + "1" * 5000 + ', "text": "The last."}\n')
    assert list(texts(path, "text")) == [*(row["text"] for row in rows), "The last."]
    assert read(path)[-1] == "The last."


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_types_that_change_late_in_a_csv(kind: str, tmp_path: Path) -> None:
    rows = [{"id": i if i < 11_000 else f"A{i}", "text": "007" if i == 3 else f"Text {i}"} for i in range(11_050)]
    assert list(texts(write(tmp_path / f"a.{kind}", rows), "text")) == [row["text"] for row in rows]
    assert columns(tmp_path / f"a.{kind}") == {"id": "number", "text": "text"}


@pytest.mark.parametrize(
    "text", ["", "NA", "null", "NaN", "None", "1.50", "True", "2024-01-01", " spaces ", "é\u2028\x85", 'say "so"', "a\r\nb"]
)
def test_a_cell_is_text_as_it_stands(text: str, tmp_path: Path) -> None:
    """Where pandas makes missing values, numbers and dates."""
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], [1, "before"], [2, text], [3, "after"]])
    assert list(texts(tmp_path / "a.csv", "text")) == ["before", text, "after"]
    put(tmp_path / "a.jsonl", "".join(json.dumps({"text": t}, ensure_ascii=False) + "\n" for t in ("before", text, "after")))
    assert list(texts(tmp_path / "a.jsonl", "text")) == ["before", text, "after"]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_another_delimiter_is_detected(name: str, delimiter: str, tmp_path: Path) -> None:
    rows = [(i, f'Text {i}, with a comma; and more|"so"\tsaid') for i in range(30)]
    with (tmp_path / name).open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([("id", "text"), *rows])
    assert read(tmp_path / name) == [text for _, text in rows]


def test_any_table_is_read_as_the_csv_module_reads_it(tmp_path: Path) -> None:
    rng, pieces = random.Random(0), ["a", "é", ",", ";", '"', "\n", "\r\n", "\t", " ", "''", "\\", "第", "", "a longer stretch of text"]
    for i in range(60):
        width, path = rng.randrange(1, 5), tmp_path / f"{i}.csv"
        rows = [["".join(rng.choices(pieces, k=rng.randrange(6))) or "x" for _ in range(width)] for _ in range(20)]
        with path.open("w", newline="", encoding="utf-8-sig" if i % 2 else "utf-8") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL if i % 3 else csv.QUOTE_MINIMAL).writerows([[f"c{c}" for c in range(width)], *rows])
        assert [row for _, row in cells(path)][1:] == rows
        assert list(texts(path, f"c{width - 1}")) == [row[-1] for row in rows]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text\nA good row.\nHello, world\n", "a.csv, line 3, has 2 cells, and the header 1: put cells that hold a comma"),
        ("id,text\n1,A row\n2,The first half, the second\n", "a.csv, line 3, has 3 cells, and the header 2"),
        ("id,text\n1,A row\n2\n", "a.csv, line 3, has 1 cells, and the header 2"),
        ('id,text\n1,"two\nlines"\n\n2,a\nbroken line,3,\n', "a.csv, line 6, has 3 cells"),
        ("id;text\n1;One\n2;Two; three\n", "a.csv, line 3, has 3 cells, and the header 2: put cells that hold a semicolon"),
        ("a;b,c\n1;2,3\n", "the header of .*a.csv could be parted by comma or semicolon"),
        ('id,text\n1,"never closed\n', "a.csv, line 2, is not CSV .unexpected end of data"),
        ('id,text\n1,"quoted" and not\n', "a.csv, line 2, is not CSV"),
        ("text,text\na,b\n", "has the column 'text' twice"),
        ("1,The first text\n2,The second text\n", "seems to have no header, its columns are called 1, The first text"),
        ("It was a dark night, so it was, and rain fell; except\nA\n", "could be parted by comma or semicolon"),
        ("It was a dark and stormy night and rain fell in torrents on all the roofs of the town\nA text\n", "seems to have no header"),
        ("id,n\n1,2\n", "has no column `text`: name one of id, n"),
        ("a,b\nx,y\n", "has no column `text`: name one of a, b"),
    ],
)
def test_a_csv_that_is_none_is_refused_with_the_line(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(StrataError, match=message) as error:
        read(put(tmp_path / "a.csv", content))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("null\nnull\n", "a.jsonl, line 1, is null, not an object"),
        (ROW + "\n\n[1]\n", "a.jsonl, line 4, is list, not an object"),
        (ROW + '"a string"\n', "a.jsonl, line 2, is text, not an object"),
        (ROW * 100 + '{"text": "no end\n', "a.jsonl, line 101, is not JSON"),
        (ROW + ROW.strip() * 2, "a.jsonl, line 2, is not JSON .Extra data"),
        (ROW.replace("\n", "\r") * 2, "a.jsonl, line 1, is not JSON"),
        ('{\n"text": "pretty"\n}\n', "a.jsonl, line 1, is not JSON"),
        ("[" + ROW, "a.jsonl is not JSON"),
        ('[{"text": "one"}, 2]', "a.jsonl, item 1, is number, not an object"),
        (ROW + '{"x": ' + "[" * 100_000 + "]" * 100_000 + "}\n", "a.jsonl, line 2, is nested too deeply"),
        ("[" * 100_000, "a.jsonl is nested too deeply"),
        (ROW + '{"text": "half \\ud83d of it"}\n', r"a.jsonl, line 2: the text holds \\ud83d, half of a character"),
        (ROW * 99 + '{"text": 5}\n', "column 'text' of .*a.jsonl, line 100, is not text but number"),
        (ROW * 99 + '{"text": ["a"]}\n', "column 'text' of .*a.jsonl, line 100, is not text but list"),
        ('{"text": true}\n', "column 'text' of .*a.jsonl is not text but true or false: the columns are text"),
        ('{"a": "x", "b": "y"}\n', "has no column `text`: name one of a, b, as in .*a.jsonl#a"),
        ("{}\n", "is empty: a corpus holds at least one text"),
        ('{"text": "raw \x01 control"}\n', "a.jsonl, line 1, is not JSON"),
    ],
)  # fmt: skip
def test_json_that_is_none_is_refused_with_the_line(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(StrataError, match=message) as error:
        read(put(tmp_path / "a.jsonl", content))
    assert "\n" not in str(error.value)


def test_json_is_read_as_the_json_module_reads_it(tmp_path: Path) -> None:
    """Pairs of surrogates are a character, only a newline ends a line, and a list of objects is a list of rows by any name."""
    rows = ["\N{GRINNING FACE}", "a\u2028b\x85c", 'x"\\/\b\t', "\x00 in front", "第"]
    escaped = "".join(json.dumps({"text": row}) + "\r\n" for row in rows)
    assert "\\ud83d\\ude00" in escaped
    plain = "\ufeff" + "".join(json.dumps({"text": row}, ensure_ascii=False) + "\n" for row in rows)
    assert list(texts(put(tmp_path / "a.jsonl", escaped), "text")) == rows
    assert list(texts(put(tmp_path / "b.jsonl", plain), "text")) == rows
    for name in ("c.json", "d.jsonl", "e.ndjson"):
        assert list(texts(put(tmp_path / name, json.dumps([{"text": row, "n": [row]} for row in rows], indent=1)), "text")) == rows
        assert list(texts(put(tmp_path / name, escaped), "text")) == rows


def test_categories_and_every_type_of_strings_in_parquet(tmp_path: Path) -> None:
    rows = [None if i % 7 == 0 else text for i, text in enumerate(TEXTS)]
    pd.DataFrame({"n": range(len(rows)), "text": pd.Categorical(rows)}).to_parquet(tmp_path / "categories.parquet")
    assert list(texts(tmp_path / "categories.parquet", "text")) == rows
    assert columns(tmp_path / "categories.parquet") == {"n": "int64", "text": "text"}
    for kind in (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.large_string())):
        held = pa.array(rows[:100]).cast(pa.string()).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(rows[:100], kind)
        parquet.write_table(pa.table({"text.x": held, "text": pa.array(rows[:100]), "s": [{"text": 1}] * 100}), tmp_path / "a.parquet")
        assert list(texts(tmp_path / "a.parquet", "text.x")) == rows[:100]
        assert list(texts(tmp_path / "a.parquet", "text")) == rows[:100]


def test_parquet_that_is_none_is_refused(tmp_path: Path) -> None:
    good = write(tmp_path / "good.parquet", table()).read_bytes()
    broken = pa.array([b"caf\xe9" * 9]).cast(pa.binary()).view(pa.string())
    parquet.write_table(pa.table({"text": broken}), tmp_path / "latin.parquet")
    parquet.write_table(pa.table({"text": pa.array([1]), "x": ["a"]}), tmp_path / "number.parquet")
    parquet.write_table(pa.table([["a"], ["b"]], names=["text", "text"]), tmp_path / "twice.parquet")
    for name, content, message in (
        ("half.parquet", good[: len(good) // 2], "cannot read .*half.parquet as Parquet"),
        ("none.parquet", b"no parquet", "none.parquet is not Parquet, and Parquet is expected"),
        ("zip.parquet", b"PK\x03\x04", "zip.parquet is a ZIP archive .*, and Parquet is expected"),
        ("gz.parquet.gz", b"\x1f\x8b\x08", "gz.parquet.gz is compressed, and Parquet is expected"),
        ("empty.parquet", b"", "empty.parquet is empty, and Parquet is expected"),
        ("latin.parquet", None, "latin.parquet is not UTF-8"),
        ("number.parquet", None, "column 'text' of .*number.parquet is not text but int64: the columns are text, x"),
        ("twice.parquet", None, "twice.parquet has the column 'text' twice"),
        ("good.txt", good, "good.txt is Parquet .which is read where the file's name ends in .parquet."),
    ):
        path = tmp_path / name
        with pytest.raises(StrataError, match=message):
            read(path if content is None else put(path, content))


def test_a_text_file_of_json_lines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StrataError, match=r"a.txt holds JSON lines, and its name does not say so: end it in .jsonl"):
        read(put(tmp_path / "a.txt", "\n" + ROW * 3))
    for text in ("{ braces } in prose", "12\nis a number", '"text"\nin quotes'):
        assert read(put(tmp_path / "b.txt", text)) == [text]


def test_where_no_column_is_named_the_first_rows_decide(tmp_path: Path) -> None:
    rows = [{"id": "x" if i > 70 else None, "body": text} for i, text in enumerate(TEXTS)]
    assert read(write(tmp_path / "a.jsonl", rows)) == TEXTS
    with pytest.raises(StrataError, match="name one of id, body"):
        read(write(tmp_path / "b.jsonl", [{"id": "x", "body": text} for text in TEXTS]))
