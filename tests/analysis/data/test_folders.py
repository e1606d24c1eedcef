"""What is read of a folder: one kind of file, all of it or an error, and what is passed over is said."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from adapters import StrataError
from adapters.families.rwkv.tokenizers import ByteTokenizer
from analysis.data.documents import documents, sampled
from analysis.data.folders import RULE, kind_of, select
from analysis.data.sources import selection
from tests.analysis.data.makers import read, table, write

ONE = ["A text of its own."]


def names(folder: Path, corpus: object | None = None) -> list[str]:
    return [str(file.relative_to(folder)) for file in selection(str(corpus or folder)).files]


def fill(folder: Path, *names: str) -> Path:
    """Each holds the text that is its name."""
    for name in names:
        write(folder / name, table([name]))
    return folder


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.JSONL", "JSON lines"), ("a.ndjson", "JSON lines"), ("a.jl", "JSON lines"), ("a.tsv", "TSV"), ("a.CSV", "CSV"),
        ("a.TXT", "text"), ("a.Parquet", "Parquet"), ("a.jsonl.gz", "JSON lines"), ("a.b.csv.BZ2", "CSV"), ("a.txt.zst", "text"),
        ("a.md", None), ("a", None), ("a.gz", None), ("txt", None),
    ],
)  # fmt: skip
def test_kinds_go_by_the_ending_without_case(name: str, kind: str | None) -> None:
    assert kind_of(Path(name)) == kind


@pytest.mark.parametrize("name", ["a.JSONL", "a.ndjson", "a.jl", "a.tsv", "a.CSV", "a.PARQUET", "a.TXT"])
def test_endings_in_capitals_and_their_brothers_are_read_alike(name: str, tmp_path: Path) -> None:
    """As a file, and as the only one of a folder."""
    assert read(write(tmp_path / name, table(ONE))) == ONE
    assert read(tmp_path) == ONE


def test_side_files_are_passed_over_by_name_and_said(tmp_path: Path) -> None:
    fill(tmp_path, "a.parquet", "sub/b.parquet")
    for name in (
        "LICENSE.txt",
        "license-MIT",
        "README.txt",
        "NOTICE",
        "requirements.txt",
        "requirements-dev.txt",
        "COPYING.txt",
        "sub/README.md",
    ):
        (tmp_path / name).write_text("Permission is hereby granted.")
    (tmp_path / "dataset_infos.json").write_text("{}")
    (tmp_path / "notes.md").write_text("Notes.")
    found = select(str(tmp_path))
    assert (found.kind, names(tmp_path)) == ("Parquet", ["a.parquet", "sub/b.parquet"])
    assert len(found.passed_over["beside texts"]) == 9
    assert found.passed_over["of a kind that is not read"] == ["notes.md"]
    assert read(tmp_path) == ["a.parquet", "sub/b.parquet"]
    assert read(tmp_path / "LICENSE.txt") == ["Permission is hereby granted."], "who names a file means it"


@pytest.mark.parametrize("name", ["license plates.jsonl", "noticed.txt", "readmes/a.txt", "authors.csv"])
def test_texts_that_are_only_called_alike_are_read(name: str, tmp_path: Path) -> None:
    assert read(fill(tmp_path, name)) == [name]


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    hidden = (".a.txt", ".ipynb_checkpoints/a-checkpoint.txt", "sub/.b.txt", "__MACOSX/a.txt", "__pycache__/c.txt")
    fill(tmp_path, "a.txt", *hidden)
    assert names(tmp_path) == ["a.txt"]
    assert select(str(tmp_path)).passed_over == {"hidden": sorted(hidden)}


@pytest.mark.parametrize("two", [("a.jsonl", "b.csv"), ("a.txt", "b.parquet"), ("a.jsonl", "b.json"), ("a.csv", "sub/b.tsv.gz")])
def test_two_kinds_are_an_error_that_shows_how_to_choose(two: tuple[str, str], tmp_path: Path) -> None:
    fill(tmp_path, *two)
    with pytest.raises(
        StrataError, match=r"holds .* and .*, and it is not clear which are meant: choose by a pattern in quotes, '"
    ) as error:
        read(tmp_path)
    for said, name in zip(str(error.value).split("quotes, ")[1].split(" or "), two, strict=True):
        assert read(said.strip("'")) == [name], "what it says works"


def test_where_a_column_is_named_rows_are_meant(tmp_path: Path) -> None:
    fill(tmp_path, "a.txt", "b.jsonl")
    assert read(f"{tmp_path}#text") == ["b.jsonl"]
    assert selection(f"{tmp_path}#text").passed_over == {"without rows": ["a.txt"]}


def test_all_files_of_a_kind_are_read_or_none(tmp_path: Path) -> None:
    """`datasets` reads my_test.jsonl alone."""
    fill(tmp_path, "a.jsonl", "my_test.jsonl")
    with pytest.raises(
        StrataError, match=r"holds my_test.jsonl, which is named as the test split, and a.jsonl, which is not: choose all"
    ) as error:
        read(tmp_path)
    assert str(tmp_path / "**/*.jsonl") in str(error.value)
    assert read(tmp_path / "**/*.jsonl") == ["a.jsonl", "my_test.jsonl"]
    assert read(f"{tmp_path}::test") == ["my_test.jsonl"]
    fill(tmp_path / "texts", "a.txt", "my_test.txt", "train.txt")
    assert read(tmp_path / "texts") == ["a.txt", "my_test.txt", "train.txt"], "texts have no splits"


def test_splits_by_name(tmp_path: Path) -> None:
    fill(tmp_path / "hub", "data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet")
    assert names(tmp_path / "hub") == ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]
    assert selection(str(tmp_path / "hub")).passed_over == {"of other splits": ["data/test-00000-of-00001.parquet"]}
    assert names(tmp_path / "hub", f"{tmp_path / 'hub'}::test") == ["data/test-00000-of-00001.parquet"]
    fill(tmp_path / "tested", "test.jsonl")
    assert read(tmp_path / "tested") == ["test.jsonl"]
    fill(tmp_path / "unsplit", "test.jsonl", "validation.jsonl")
    assert read(f"{tmp_path / 'unsplit'}::validation") == ["validation.jsonl"]
    fill(tmp_path / "no", "latest.jsonl", "trained.jsonl", "devotion.jsonl")
    assert len(names(tmp_path / "no")) == 3
    for corpus, message in (
        (tmp_path / "unsplit", "has no split `train`: name one of validation, test, as in .*unsplit::"),
        (f"{tmp_path / 'unsplit'}::trian", "unknown split of .*unsplit 'trian'"),
        (f"{tmp_path / 'hub'}:en", "unknown configuration of .*hub 'en': valid: default"),
        (f"{tmp_path / 'no'}::test", r"no has no splits, its files are not named by them: choose files with a pattern, as in"),
        (f"{tmp_path / 'tested' / 'test.jsonl'}::test", "is not a folder, and has no configurations or splits"),
        (f"{tmp_path / 'tested' / '*.jsonl'}::test", "is not a folder, and has no configurations or splits"),
    ):
        with pytest.raises(StrataError, match=message):
            read(corpus)


def configurations(folder: Path, head: str) -> Path:
    for part in ("en", "zh"):
        fill(folder, *(f"{part}/{split}-0.jsonl" for split in ("first", "second")))
    (folder / "README.md").write_text(f"---\nlicense: mit\n{head}---\n# A data set\n")
    return folder


BOTH = "configs:\n" + "".join(
    f"- config_name: {part}\n  data_files:\n  - split: train\n    path: {part}/first-*\n  - split: test\n    path: ['{part}/second-*']\n"
    for part in ("en", "zh")
)


@pytest.mark.parametrize(
    ("head", "configuration", "split"),
    [
        (BOTH, "en", None),
        (BOTH, "zh", "test"),
        (BOTH.replace("config_name: zh\n", "config_name: zh\n  default: true\n"), None, None),
        ("configs:\n- config_name: default\n  data_files: zh/*.jsonl\n", None, None),
        ("configs:\n- config_name: only\n  data_files: ['en/first-0.jsonl', 'zh/first-0.jsonl']\n", "only", "train"),
    ],
)
def test_the_head_of_the_readme_says_what_the_hub_would_read(
    head: str, configuration: str | None, split: str | None, tmp_path: Path
) -> None:
    """As `datasets` understands it."""
    folder = configurations(tmp_path / "set", head)
    theirs = datasets.load_dataset_builder(str(folder), configuration, cache_dir=str(tmp_path / "cache")).config.data_files
    found = select(str(folder), configuration, split)
    assert [str(file) for file in found.files] == sorted(theirs[split or "train"])


def test_configurations_that_cannot_be_had(tmp_path: Path) -> None:
    folder = configurations(tmp_path / "set", BOTH)
    for corpus, message in (
        (folder, r"set has several configurations: name one of en, zh, as in .*set:en"),
        (f"{folder}:zn", "unknown configuration of .*set 'zn': did you mean zh"),
        (f"{folder}:en:trian", "unknown split of .*set 'trian': did you mean train"),
    ):
        with pytest.raises(StrataError, match=message):
            read(corpus)
    for head, message in (
        ("configs: [1]\n", "has `configs` that are not a list"),
        ("configs: {\n", "cannot read the head of .*README.md"),
        ("configs:\n- data_files: gone/*\n", "declares the files 'gone/.', and there are none"),
        ("configs:\n- data_files: ../../*\n", "declares the files '../../.', and there are none"),
        ("configs:\n- data_files: [{split: train}]\n", "declares the files None"),
        ("configs:\n- data_files: [{splt: test, path: en/*}]\n", "declares files by the key 'splt': only split and path are read"),
    ):
        with pytest.raises(StrataError, match=message) as error:
            read(configurations(tmp_path / "set", head))
        assert "\n" not in str(error.value)


def test_a_pattern_is_one_kind_too(tmp_path: Path) -> None:
    fill(tmp_path, "a.jsonl", "b.jsonl", "c.csv", "sub/d.jsonl", "a.md")
    assert read(tmp_path / "[ab].jsonl") == ["a.jsonl", "b.jsonl"]
    assert read(tmp_path / "*.md") == ["a.md"], "a file of an unknown kind is text to whoever names it"
    for corpus, message in (
        (tmp_path / "*", "and it is not clear which are meant"),
        (tmp_path / "*.tsv", "matches no files: expected .txt"),
    ):
        with pytest.raises(StrataError, match=message):
            read(corpus)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "README.md").write_text("# Nothing")
    (tmp_path / "only" / "picture.png").touch()
    fill(tmp_path / "link", "a.jsonl")
    (tmp_path / "link" / "b.jsonl").symlink_to("nowhere.jsonl")
    for corpus, message in (
        ("empty", "empty holds no files: expected .txt, .parquet"),
        ("only", r"only holds only README.md \(beside texts\); picture.png \(of a kind that is not read\): expected"),
        ("link", "b.jsonl is a link to a file that is not there"),
        ("nothing.jsonl", "unknown corpus .*nothing.jsonl.*: expected `texts`"),
    ):
        with pytest.raises(StrataError, match=message):
            read(tmp_path / corpus)
    with pytest.raises(StrataError, match="is neither a file nor a folder"):
        read("/dev/null")


def test_files_with_other_columns_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", table(ONE))
    write(tmp_path / "b.jsonl", table(ONE, column="body"))
    with pytest.raises(StrataError, match=r"b.jsonl has no column 'text', which is read of .*: it has n, body"):
        read(tmp_path)


def test_what_was_read_is_counted(tmp_path: Path) -> None:
    """Counted by hand: 5 rows of one file, 3 of the other; one null, one blank, two repeated."""
    texts = ["One text of some length.", None, "Two texts of some length.", "  \n", "one  text of SOME length."]
    write(tmp_path / "a.jsonl", [{"text": text} for text in texts])
    write(tmp_path / "b.jsonl", table(["Three texts of some length.", "Two texts of some length.", "Four texts."]))
    (tmp_path / "LICENSE").touch()
    found, reading = sampled(str(tmp_path), 4, 8, ByteTokenizer(), split=None)
    assert len(found) == 4
    said = reading.to_json()
    assert said == {
        "kind": "JSON lines", "column": "text", "files": [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")],
        "passed_over": {"beside texts": ["LICENSE"]}, "rows": 8, "empty": 2, "documents": 4, "repeated": 2, "split": None, "in_split": 4,
        "made": "",
    }  # fmt: skip
    assert json.dumps(said)
    assert reading.sentence == (
        f"read {tmp_path} (JSON lines, 2 files, column text, 8 rows): 2 empty, 2 repeated, 4 documents; skipped LICENSE (beside texts)"
    )
    parts = [sampled(str(tmp_path), 1, 8, ByteTokenizer(), split=split, fewer=True)[1] for split in ("calibration", "held-out")]
    assert sum(part.in_split for part in parts) == 4
    assert f", 4 documents, {parts[0].in_split} of them calibration" in parts[0].sentence


def test_how_documents_are_made_is_said(tmp_path: Path) -> None:
    """Where a paragraph, a line or a row is not one; each file and row here is one where nothing is said."""
    paragraphs = [f"Paragraph {i} goes on for some words, and ends." for i in range(400)]
    (tmp_path / "long.txt").write_text("\n\n".join(paragraphs))
    (tmp_path / "short.txt").write_text("\n\n".join(paragraphs[:3]))
    write(tmp_path / "rows.jsonl", [{"text": text} for text in paragraphs])
    write(tmp_path / "lines.jsonl", [{"text": f"{text}\n"} for text in paragraphs[:9]])
    write(tmp_path / "many.jsonl", [{"text": f"{text}\n"} for text in paragraphs])
    write(tmp_path / "books.jsonl", [{"text": "\n".join(paragraphs[:200])}, {"text": "\n".join(paragraphs[200:])}])
    long = "cut at the ends of lines into documents of about 4,000 characters"
    for name, made in {
        "long.txt": f"long files are {long}",
        "short.txt": "",
        "rows.jsonl": "",
        "lines.jsonl": "rows that are single lines are joined",
        "many.jsonl": f"rows that are single lines are joined, and {long}",
        "books.jsonl": f"long rows are {long}",
    }.items():
        reading = sampled(str(tmp_path / name), 1, 8, ByteTokenizer(), split=None)[1]
        assert reading.made == reading.to_json()["made"] == made, name
        assert reading.sentence.endswith(f"; {made}" if made else ("documents", "document"))


def test_files_of_text_are_counted(tmp_path: Path) -> None:
    for i, text in enumerate(("A text.", " \n", "a  text.", "Another.\x1b[31m")):
        (tmp_path / f"{i}\x1b.txt").write_text(text)
    found, reading = sampled(str(tmp_path), 2, 2, ByteTokenizer(), split=None)
    assert [reading.rows, reading.empty, reading.repeated, reading.documents] == [4, 1, 1, 2]
    assert reading.sentence.isprintable()
    assert len(found) == 2


def test_documents_that_begin_alike_are_no_repetitions(tmp_path: Path) -> None:
    """A preamble, a licence or an instruction stands before each of them."""
    alpaca = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\n"
        * 2
    )
    rows = [f"{alpaca}{i}" for i in range(500)]
    assert read(write(tmp_path / "a.jsonl", table(rows))) == rows
    assert len({document.id for document in documents(str(tmp_path))}) == 500


def test_the_rule_is_in_the_help() -> None:
    from typing import get_args

    from reports.cli.options import Corpus

    assert RULE in get_args(Corpus)[1].help
