"""Questions of benchmarks as slow readers take them from the makers' files and the hub's: what they must hold."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pyarrow import parquet

from tests.fuzz.verdicts import Unread

Row = dict[str, Any]


def _lines(path: Path) -> list[Any]:
    text = path.read_bytes().decode("utf-8-sig")
    if "\0" in text:
        raise Unread("zero bytes")
    if text.lstrip().startswith("["):
        return json.loads(text)
    return [json.loads(line) for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n") if line.strip()]


def _cells(path: Path) -> list[list[str]]:
    text = path.read_bytes().decode("utf-8-sig")
    if "\0" in text:
        raise Unread("zero bytes")
    return [row for row in csv.reader(io.StringIO(text.replace("\r\n", "\n").replace("\r", "\n"), newline=""), strict=True) if row]


def _listed(path: Path) -> list[int]:
    return [int(line) for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]


def piqa(folder: Path) -> list[Row]:
    rows, labels = _lines(folder / "piqa/valid.jsonl"), _listed(folder / "piqa/valid-labels.lst")
    return [_of(row, "goal", "sol1", "sol2") | {"label": label} for row, label in zip(rows, labels, strict=True)]


def _of(row: Row, *keys: str) -> Row:
    return {key: row[key] for key in keys}


def _truth(value: object) -> int:
    return {"true": 1, "1": 1, "false": 0, "0": 0}[str(value).lower()]


def _wsc(row: Row) -> Row:
    spans = _of(row["target"], "span1_index", "span2_index", "span1_text", "span2_text")
    return {"text": row["text"], "label": _truth(row["label"])} | spans


def _boolq(row: Row) -> Row:
    return _of(row, "question", "passage") | {"label": _truth(row.get("label", row.get("answer")))}


def _race(folder: Path) -> list[Row]:
    """Questions of an article are asked together."""
    found: dict[str, list[Row]] = {}
    for path in sorted(folder.glob("race/test/middle/*.txt")):
        held = json.loads(path.read_text(encoding="utf-8-sig"))
        for question, options, answer in zip(held["questions"], held["options"], held["answers"], strict=True):
            problem = {"question": question, "options": options, "answer": "ABCD"["ABCD".index(answer)]}
            found.setdefault(held["article"], []).append(problem)
    return [{"article": article, "problems": repr(problems)} for article, problems in found.items()]


def _coqa(folder: Path) -> list[Row]:
    return [{"story": row["story"]} for row in json.loads((folder / "coqa/coqa-dev-v1.0.json").read_text(encoding="utf-8-sig"))["data"]]


def _chid(row: Row) -> Row:
    return {"passages": [row["content"].replace("#idiom#", idiom) for idiom in row["candidates"]], "answer": row["answer"]}


CMNLI = {"neutral": 0, "entailment": 1, "contradiction": 2}


def _cmnli(folder: Path) -> list[Row]:
    rows = [row for row in _lines(folder / "cmnli/dev.json") if row["label"] != "-"]
    return [_of(row, "sentence1", "sentence2") | {"label": CMNLI[row["label"]]} for row in rows]


def _c3(folder: Path) -> list[Row]:
    held = [row for name in "dm" for row in json.loads((folder / f"c3/c3-{name}-dev.json").read_text(encoding="utf-8-sig"))]
    return [{"context": context} | _of(asked, "question", "choice", "answer") for context, questions, _ in held for asked in questions]


def _mmlu(folder: Path) -> Iterator[Row]:
    for question, *choices, answer in _cells(folder / "mmlu/test/anatomy_test.csv"):
        if question != "question":
            yield {"question": question, "choices": choices, "answer": "ABCD".index(answer) if answer in "ABCD" else int(answer)}


def _cmmlu(folder: Path) -> Iterator[Row]:
    for _, question, *choices, answer in _cells(folder / "cmmlu/test/agronomy.csv"):
        if question != "Question":
            yield {"Question": question, **dict(zip("ABCD", choices, strict=True)), "Answer": answer}


def _copied(folder: Path) -> list[Row]:
    return [row for path in sorted(folder.glob("baber/piqa/validation*.parquet")) for row in parquet.read_table(path).to_pylist()]


def _each(path: str, make: Callable[[Row], Row]) -> Callable[[Path], list[Row]]:
    return lambda folder: [make(row) for row in _lines(folder / path)]


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {  # by task: the folder of its files, and what its questions hold
    "piqa": ("piqa", piqa),
    "hellaswag": (
        "hellaswag",
        _each("hellaswag/hellaswag_val.jsonl", lambda r: _of(r, "ctx_a", "ctx_b", "endings") | {"label": str(r["label"])}),
    ),
    "boolq": ("boolq", _each("boolq/dev.jsonl", _boolq)),
    "wsc": ("wsc", _each("wsc/val.jsonl", _wsc)),
    "race_middle": ("race", _race),
    "coqa_loss": ("coqa", _coqa),
    "xsum_loss": ("xsum", _each("xsum/test.jsonl", lambda r: _of(r, "document", "summary"))),
    "chid": ("chid", _each("chid/dev_few_all.json", _chid)),
    "cmnli": ("cmnli", _cmnli),
    "c3": ("c3", _c3),
    "mmlu_anatomy": ("mmlu", _mmlu),
    "cmmlu_agronomy": ("cmmlu", _cmmlu),
    "copy": ("baber", _copied),
}
