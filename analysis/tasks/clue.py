"""CLUE's benchmarks (Xu et al., 2020), and FewCLUE's CHID, from their makers' files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapters.errors import StrataError
from analysis.tasks import files
from analysis.tasks.files import VALIDATION, Reader, Row, Splits, jsonl

CMNLI = {"neutral": 0, "entailment": 1, "contradiction": 2, "中立": 0, "蕴含": 1, "矛盾": 2}  # the second three: CURC's copy


def clue(folder: Path, name: str) -> Splits:
    """Rows of clue/clue. Raises StrataError for another configuration than c3, chid and cmnli."""
    tables: Mapping[str, Reader] = {"c3": _c3, "chid": _chid, "cmnli": _cmnli}
    if name not in tables:
        raise StrataError(f"of CLUE, `data` knows {', '.join(tables)}, not {name}")
    return tables[name](folder, name)


def _c3(folder: Path, name: str) -> Splits:
    def make(held: list[Any]) -> Row:
        context, questions, _ = held
        for asked in questions:
            if asked["answer"] not in asked["choice"]:
                raise ValueError(f"answer {asked['answer']!r} is none of {asked['choice']}")
        return {"rows": [{"context": context} | {key: q[key] for key in ("question", "choice", "answer")} for q in questions]}

    def read(split: str) -> list[Row]:
        halves = [files.found(folder / "c3", f"*{kind}-{split}.json") for kind in "dm"]  # dialogues, and other texts
        held = files.rows(halves[0] + halves[1], make, files.items)
        if bool(halves[0]) != bool(halves[1]):
            raise StrataError(f"{folder / 'c3'} holds half of C3: expected both c3-d-{split}.json and c3-m-{split}.json")
        return [row for one in held for row in one["rows"]]

    return files.splits(read("dev"), read("train"))


def _chid(folder: Path, name: str) -> Splits:
    """FewCLUE's, with one blank a row, in the columns of CLUE's, which may have several. The paper's numbers are on `dev_few_all`."""
    held = ("chid/dev_few_all.json", "chid/test_public.json", "chid/*.json", "fewclue/chid*.json")

    def make(row: Row) -> Row:
        right = row["candidates"][row["answer"]]
        if row["content"].count("#idiom#") != 1:
            raise ValueError(f"{row['content'].count('#idiom#')} places of #idiom# in content, expected one")
        content = [row["content"].replace("#idiom#", "#idiom000000#")]
        return {"candidates": row["candidates"], "content": content, "answers": {"text": [right], "candidate_id": [row["answer"]]}}

    return jsonl(folder, make, (), next((pattern for pattern in held if files.found(folder, pattern)), held[0]))


def _cmnli(folder: Path, name: str) -> Splits:
    """Rows on which annotators did not agree have the label `-`; CLUE's readers leave them out."""

    def make(row: Row) -> Row:
        first, second = (row["text_a"], row["text_b"]) if "text_a" in row else (row["sentence1"], row["sentence2"])
        return {"sentence1": first, "sentence2": second, "label": -1 if row["label"] == "-" else CMNLI[row["label"]]}

    found = jsonl(folder / "cmnli", make, VALIDATION, "*.json")
    return {split: [row for row in rows if row["label"] >= 0] for split, rows in found.items()}
