"""Files of benchmarks, as their makers and the hub lay them out, read by lm_eval's tasks.

The reference reads the same files with the standard library and Arrow: every question must hold what its row says, and questions
that were not mutated must be asked in the same words and have the same right answer as before.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import parquet

from analysis.tasks import load_tasks
from tests.analysis.tasks.makers import table_1
from tests.fuzz.core import Kind, Unread, Wrong
from tests.fuzz.mutations import json_file, raw, shuffled_lines, tree

N = 6  # questions
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


def _piqa(folder: Path) -> list[Row]:
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
    "piqa": ("piqa", _piqa),
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


class Asked(NamedTuple):
    doc: Any
    words: list[tuple]  # of the requests
    gold: Any


def _make(root: Path) -> dict[str, list[Asked]]:
    whole = root / "whole"
    table_1(whole, N)
    rows = pa.Table.from_pylist(_piqa(whole))
    (whole / "baber/piqa").mkdir(parents=True)
    parquet.write_table(rows, whole / "baber/piqa/validation-00000-of-00001.parquet", write_page_checksum=True)
    parquet.write_table(rows.slice(0, 2), whole / "baber/piqa/train.parquet", write_page_checksum=True)
    head = "".join(f"  - split: {split}\n    path: {split}*.parquet\n" for split in ("train", "validation"))
    (whole / "baber/piqa/README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{head}---\n")
    for name, (inside, _) in READERS.items():
        shutil.copytree(whole / inside, root / name / inside)
    return {name: _asked(root / name) for name in READERS}


def _asked(folder: Path) -> list[Asked]:
    task = "piqa" if folder.name == "copy" else folder.name
    found = load_tasks(task, shots=0, data=folder)
    return [Asked(dict(item.doc), [instance.args for instance in item.instances], found.gold(item)) for item in found.items]


def _mutate(rng: Random, folder: Path, base: Any) -> str:
    path = rng.choice([path for path in sorted(folder.rglob("*")) if path.is_file()])
    name, draw = path.relative_to(folder), rng.random()
    if draw < 0.05:
        path.unlink()
        return f"{name} is gone"
    data = path.read_bytes()
    if draw < 0.55 and data[:1] in b"{[":
        return f"{name}: {_json(rng, path)}"
    changed, said = shuffled_lines(rng, data) if draw < 0.7 else raw(rng, data)
    path.write_bytes(changed)
    return f"{name}: {said}"


def _json(rng: Random, path: Path) -> str:
    """Another value in a file that is JSON, or in one of its lines."""
    lines = path.read_bytes().rstrip().split(b"\n")
    if len(lines) == 1:
        return json_file(rng, path)
    i = rng.randrange(len(lines))
    found, said = tree(rng, json.loads(lines[i]))
    lines[i] = json.dumps(found).encode()
    path.write_bytes(b"\n".join(lines))
    return f"line {i}, {said}"


def _judge(folder: Path, base: list[Asked]) -> tuple[str, str]:
    got = _asked(folder)
    try:
        want = list(READERS[folder.name][1](folder))
    except Exception as error:  # of json, csv, Arrow, and of rows that lack something
        if got == base:
            return "as before", f"{type(error).__name__}: {error}"
        raise Wrong(f"the questions are others, and the reference says {type(error).__name__}: {error}") from error
    if len(got) != len(want):
        raise Wrong(f"{len(got)} questions, {len(want)} are expected")
    for question, row in zip(got, want, strict=True):
        if different := {key: (question.doc[key], value) for key, value in row.items() if question.doc[key] != value}:
            raise Wrong(f"questions hold {different}")
        known = next((one for one in base if one.doc == question.doc), question)
        if known != question:
            raise Wrong(f"{question} was asked as {known}")
    return "right", ""


KIND = Kind(_make, _mutate, _judge)
