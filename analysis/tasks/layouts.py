"""Benchmarks as their makers publish them: which files a folder for `--data` holds, and their rows in the columns of the hub's data sets.

Of several files of a benchmark, those with `train` in their name serve few-shot examples; of the others, those of the split that
a task asks are read where there are such (`dev` or `val`, or `test`): makers keep the answers of the rest to themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from adapters.errors import StrataError
from analysis.tasks import files
from analysis.tasks.clue import clue
from analysis.tasks.files import TEST, VALIDATION, Reader, Row, Splits, jsonl

LETTERS = "ABCD"


class Layout(NamedTuple):
    held: str  # which files, and what their rows hold
    read: Reader


def _yes(answer: object) -> int:
    if (text := str(answer).lower()) not in ("true", "false", "1", "0"):
        raise ValueError(f"{answer!r} is neither true nor false")
    return int(text in ("true", "1"))


def _option(number: object) -> int:
    """Which option is meant, by its number."""
    if not str(number).isdecimal():
        raise ValueError(f"{number!r} is not the number of an option")
    return int(str(number))


def _mmlu(folder: Path, name: str) -> Splits:
    def make(cells: list[str]) -> Row:
        question, *choices, answer = cells
        if len(choices) != 4:
            raise ValueError(f"expected 6 columns, found {len(cells)}")
        right = LETTERS.index(answer) if answer in LETTERS else _option(answer)
        return {"question": question, "choices": choices, "answer": right, "subject": name}

    def read(split: str) -> list[Row]:
        paths = files.found(folder / "mmlu" / split, f"{name}_{split}.csv", f"{name}.csv")
        return files.rows(paths, make, lambda path: (placed for placed in files.table(path) if placed[1][0] != "question"))

    return {"test": read("test"), "dev": read("dev"), "validation": read("val")}


def _cmmlu(folder: Path, name: str) -> Splits:
    def make(cells: list[str]) -> Row:
        _, question, a, b, c, d, answer = cells
        return {"Question": question, "A": a, "B": b, "C": c, "D": d, "Answer": LETTERS[LETTERS.index(answer)]}

    def read(split: str) -> list[Row]:
        paths = files.found(folder / "cmmlu" / split, f"{name}.csv")
        return files.rows(paths, make, lambda path: (placed for placed in files.table(path) if placed[1][1:2] != ["Question"]))

    return {"test": read("test"), "dev": read("dev")}


def _hellaswag(folder: Path, name: str) -> Splits:
    def make(row: Row) -> Row:
        return {key: row[key] for key in ("activity_label", "ctx_a", "ctx_b", "endings")} | {"label": str(_option(row["label"]))}

    return jsonl(folder / "hellaswag", make, VALIDATION)


def _piqa(folder: Path, name: str) -> Splits:
    def read(split: str) -> list[Row]:
        path = folder / "piqa" / f"{split}.jsonl"
        if not path.is_file():
            return []
        listed = path.with_name(f"{split}-labels.lst")
        labels = (label for _, label in files.lines(listed))
        keys = ("goal", "sol1", "sol2")
        rows = files.rows([path], lambda row: {k: row[k] for k in keys} | {"label": _option(next(labels, "no label"))}, files.objects)
        if more := len(list(labels)):
            raise StrataError(f"{listed} holds {more} labels more than {path.name} has rows: give the two files of one split")
        return rows

    return files.splits(read("valid"), read("train"))


def boolq_row(row: Row) -> Row:
    return {"question": row["question"], "passage": row["passage"], "label": _yes(row["label"] if "label" in row else row["answer"])}


def _wsc_row(row: Row) -> Row:
    keys = ("span1_index", "span2_index", "span1_text", "span2_text")
    return {"text": row["text"], "label": _yes(row["label"])} | {k: row["target"][k] for k in keys}


def _superglue(folder: Path, name: str) -> Splits:
    tables = {"boolq": ("boolq", boolq_row), "wsc.fixed": ("wsc", _wsc_row)}
    if name not in tables:
        raise StrataError(f"of SuperGLUE, `data` knows {', '.join(tables)}, not {name}")
    inside, make = tables[name]
    return jsonl(folder / inside, make, VALIDATION)


def _arc_row(row: Row) -> Row:
    if "gold" in row:  # MosaicML's, with the prompt's first word in the question
        choices = row["choices"]
        labels = list("ABCDEFGH"[: len(choices)])
        return stem(row["query"].removeprefix("Question:").strip(), choices, labels, labels[_option(row["gold"])])
    choices = row["question"]["choices"]
    return stem(row["question"]["stem"], [c["text"] for c in choices], [c["label"] for c in choices], row["answerKey"])


def stem(question: str, texts: list[str], labels: list[str], answer: str) -> Row:
    """A row as ARC and OpenBookQA have it. Raises ValueError when `answer` is none of `labels`."""
    if answer not in labels:
        raise ValueError(f"answer {answer!r} is none of {labels}")
    return {"question": question, "question_stem": question, "choices": {"text": texts, "label": labels}, "answerKey": answer}


def _arc(folder: Path, name: str) -> Splits:
    return jsonl(folder / "arc", _arc_row, TEST, f"{name.lower().replace('-', '_')}*.jsonl", f"{name}*.jsonl")


def _race(folder: Path, name: str) -> Splits:
    """One row a question, as ehovy/race has them: a file an article, or a line a question."""

    def article(held: Row) -> Row:
        asked = zip(held["questions"], held["options"], held["answers"], strict=True)
        return {"rows": [question({"article": held["article"], "question": q, "options": o, "answer": a}) for q, o, a in asked]}

    def question(row: Row) -> Row:
        kept = {key: row[key] for key in ("article", "question", "options")}
        return kept | {"answer": LETTERS[LETTERS.index(row["answer"])], "id": row.get("example_id", "")}

    held = files.rows(files.found(folder / "race", f"test/{name}/*.txt"), article, files.whole)
    single = files.rows(files.found(folder / "race", "*.jsonl"), question, files.objects)
    return files.splits([row for one in held for row in one["rows"]] + [row for row in single if row["id"].startswith(name)])


def _race_articles(folder: Path, name: str) -> Splits:
    """One row an article, its questions together, as EleutherAI/race has them."""
    from analysis.tasks.own.prompts import race_articles  # imports lm_eval, which takes seconds

    return {split: race_articles(rows) for split, rows in _race(folder, name).items()}


def _coqa(folder: Path, name: str) -> Splits:
    """Lists of turns become lists of each key, as EleutherAI/coqa has them."""

    def turns(listed: list[Row]) -> dict[str, list[Any]]:
        return {"input_text": [turn["input_text"] for turn in listed]}

    def make(row: Row) -> Row:
        questions, answers = turns(row["questions"]), turns(row["answers"])
        more = {name: turns(listed) for name, listed in row.get("additional_answers", {}).items()}  # other people's, of the same questions
        asked, given = len(questions["input_text"]), [len(each["input_text"]) for each in (answers, *more.values())]
        if not asked or set(given) != {asked}:
            raise ValueError(f"{asked} questions and {', '.join(map(str, given))} answers")
        kept = {"id": row["id"], "story": row["story"], "questions": questions, "answers": answers}
        return kept | ({"additional_answers": more} if more else {})

    def read(split: str) -> list[Row]:
        return files.rows(files.found(folder / "coqa", f"coqa-{split}*.json"), make, lambda path: files.items(path, "data"))

    return files.splits(read("dev"), read("train"))


def _xsum(folder: Path, name: str) -> Splits:
    return jsonl(folder / "xsum", lambda row: {"document": row["document"], "summary": row["summary"]}, TEST)


def _winogrande(folder: Path, name: str) -> Splits:
    keys = ("sentence", "option1", "option2", "answer")
    return jsonl(folder / "winogrande", lambda row: {k: str(row[k]) for k in keys}, VALIDATION)


def _gsm8k(folder: Path, name: str) -> Splits:
    return jsonl(folder / "gsm8k", lambda row: {key: str(row[key]) for key in ("question", "answer")}, TEST)


def _humaneval(folder: Path, name: str) -> Splits:
    keys = ("task_id", "prompt", "canonical_solution", "test", "entry_point")
    return jsonl(folder / "humaneval", lambda row: {key: row[key] for key in keys}, TEST, "*.jsonl*")


def _mbpp(folder: Path, name: str) -> Splits:
    """Numbers say what a problem is for: 1 to 10 examples, up to 510 the test, up to 600 validation, the rest training."""
    keys = ("text", "code", "test_list", "test_setup_code", "challenge_test_list")
    found = files.rows(
        files.found(folder / "mbpp", "*.jsonl*"), lambda row: {"task_id": int(row["task_id"])} | {k: row[k] for k in keys}, files.objects
    )
    ends = {"prompt": (1, 10), "test": (11, 510), "validation": (511, 600), "train": (601, 974)}
    return {split: [row for row in found if first <= row["task_id"] <= last] for split, (first, last) in ends.items()}


def _triviaqa(folder: Path, name: str) -> Splits:
    def make(row: Row) -> Row:
        aliases = list(dict.fromkeys([row["Answer"]["Value"], *row["Answer"]["Aliases"]]))
        return {"question": row["Question"].removesuffix("?"), "answer": {"aliases": aliases, "value": row["Answer"]["Value"]}}

    def read(split: str) -> list[Row]:
        return files.rows(files.found(folder / "triviaqa", f"*{split}*.json"), make, lambda path: files.items(path, "Data"))

    return files.splits(read("dev"), read("train"))


def _bbh(folder: Path, name: str) -> Splits:
    paths = files.found(folder / "bbh", f"{name}.json")
    return files.splits(files.rows(paths, lambda row: {k: row[k] for k in ("input", "target")}, lambda path: files.items(path, "examples")))


LAYOUTS: Mapping[str, Layout] = {
    "cais/mmlu": Layout("mmlu/{dev,test}/SUBJECT_{dev,test}.csv: question, four choices, answer (A to D, or 0 to 3)", _mmlu),
    "haonan-li/cmmlu": Layout("cmmlu/{dev,test}/SUBJECT.csv: number, Question, A, B, C, D, Answer", _cmmlu),
    "Rowan/hellaswag": Layout("hellaswag/*.jsonl: activity_label, ctx_a, ctx_b, endings, label", _hellaswag),
    "baber/piqa": Layout("piqa/valid.jsonl: goal, sol1, sol2; piqa/valid-labels.lst: a label a line; train likewise", _piqa),
    "aps/super_glue": Layout(
        "boolq/*.jsonl: question, passage, answer (or label); wsc/*.jsonl: text, target (span1_text, ...), label", _superglue
    ),
    "allenai/ai2_arc": Layout("arc/ARC-Easy-*.jsonl or arc_easy*.jsonl (Challenge likewise): question (stem, choices), answerKey", _arc),
    "allenai/openbookqa": Layout(
        "openbookqa/*.jsonl: question (stem, choices), answerKey", lambda folder, name: jsonl(folder / "openbookqa", _arc_row, TEST)
    ),
    "EleutherAI/race": Layout(
        "race/test/{high,middle}/*.txt: article, questions, options, answers; or race/*.jsonl: example_id (high..., middle...), article, "
        "question, options, answer",
        _race_articles,
    ),
    "ehovy/race": Layout("race/: as for EleutherAI/race", _race),
    "EleutherAI/coqa": Layout("coqa/coqa-dev-v1.0.json: data (story, questions, answers, additional_answers)", _coqa),
    "openai/gsm8k": Layout("gsm8k/test.jsonl, gsm8k/train.jsonl: question, answer", _gsm8k),
    "openai/openai_humaneval": Layout("humaneval/HumanEval.jsonl.gz: task_id, prompt, canonical_solution, test, entry_point", _humaneval),
    "google-research-datasets/mbpp": Layout("mbpp/mbpp.jsonl: task_id, text, code, test_list, ...", _mbpp),
    "mandarjoshi/trivia_qa": Layout("triviaqa/*-dev.json: Data (Question, Answer)", _triviaqa),
    "SaylorTwift/bbh": Layout("bbh/NAME.json: examples (input, target)", _bbh),
    "EdinburghNLP/xsum": Layout("xsum/*.jsonl: document, summary", _xsum),
    "clue/clue": Layout(
        "c3/*{d,m}-dev.json: [texts, questions, id]; chid/*.json (FewCLUE): content, candidates, answer; "
        "cmnli/*.json: sentence1, sentence2, label",
        clue,
    ),
    "allenai/winogrande": Layout("winogrande/*.jsonl: sentence, option1, option2, answer", _winogrande),
    "EleutherAI/lambada_openai": Layout(
        "lambada/*.jsonl: text", lambda folder, name: jsonl(folder / "lambada", lambda row: {"text": row["text"]}, TEST)
    ),
}
