"""Small benchmark files of our own making, in their makers' formats."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

WORDS = ["the", "cat", "sat", "on", "a", "warm", "red", "mat", "and", "saw", "two", "birds", "in", "an", "old", "tree"]


def sentence(seed: int, n: int) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, n))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def write_table(path: Path, rows: Iterable[Iterable[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def write_json(path: Path, whole: object) -> None:
    write_lines(path, [json.dumps(whole, ensure_ascii=False)])


def table_1(folder: Path, n: int) -> None:
    """All benchmarks of the paper's Table 1, `n` questions each."""
    numbers = range(n)
    texts = [sentence(i, 8) for i in numbers]
    options = [[sentence(100 * i + j, 2) for j in range(4)] for i in numbers]
    piqa = [{"goal": text, "sol1": a, "sol2": b} for text, (a, b, *_) in zip(texts, options, strict=True)]
    write_lines(folder / "piqa/valid.jsonl", map(json.dumps, piqa))
    write_lines(folder / "piqa/valid-labels.lst", (str(i % 2) for i in numbers))
    walks = [{"activity_label": "Walk", "ctx_a": texts[i], "ctx_b": "she", "endings": options[i], "label": i % 4} for i in numbers]
    write_lines(folder / "hellaswag/hellaswag_val.jsonl", map(json.dumps, walks))
    write_lines(folder / "hellaswag/hellaswag_test.jsonl", (json.dumps({k: v for k, v in walk.items() if k != "label"}) for walk in walks))
    asked = [{"question": "is the mat red", "passage": text, "answer": i % 3 == 0} for i, text in enumerate(texts)]
    write_lines(folder / "boolq/dev.jsonl", map(json.dumps, asked))
    spans = {"span1_text": "the cat", "span1_index": 0, "span2_text": "it", "span2_index": 5}
    wsc = [{"text": "The cat sat because it was old .", "target": spans, "idx": i, "label": i % 2 == 0} for i in numbers]
    write_lines(folder / "wsc/val.jsonl", map(json.dumps, wsc))
    write_lines(folder / "wsc/test.jsonl", (json.dumps({k: v for k, v in row.items() if k != "label"}) for row in wsc))
    for level in ("high", "middle"):
        for i in numbers:
            article = {
                "article": texts[i],
                "questions": ["Who sat?", "It saw  _  ."],
                "options": [options[i]] * 2,
                "answers": ["A", "ABCD"[i % 4]],
            }
            write_json(folder / f"race/test/{level}/{i}.txt", article | {"id": f"{level}{i}.txt"})
    turns = [
        [{"input_text": words, "turn_id": t} for t, words in enumerate(said, 1)]
        for said in (["Who sat?", "On what?"], ["the cat", "a mat"])
    ]
    talks = [{"id": str(i), "story": text, "questions": turns[0], "answers": turns[1]} for i, text in enumerate(texts)]
    write_json(folder / "coqa/coqa-dev-v1.0.json", {"version": "1.0", "data": talks})
    news = [{"id": str(i), "document": text, "summary": sentence(i + 50, 4)} for i, text in enumerate(texts)]
    write_lines(folder / "xsum/test.jsonl", map(json.dumps, news))
    idioms = ["画蛇添足", "守株待兔", "井底之蛙", "亡羊补牢", "对牛弹琴", "掩耳盗铃", "狐假虎威"]
    chid = [{"id": i, "candidates": idioms, "content": f"第{i}次，他真是#idiom#。", "answer": i % 7} for i in numbers]
    write_lines(folder / "chid/dev_few_all.json", (json.dumps(row, ensure_ascii=False) for row in chid))
    write_lines(folder / "chid/test.json", (json.dumps({k: v for k, v in row.items() if k != "answer"}) for row in chid))
    pairs = [
        {"sentence1": f"他有{i}本书。", "sentence2": "他有书。", "label": ["neutral", "entailment", "contradiction"][i % 3]}
        for i in numbers
    ]
    unsure = {"sentence1": "天", "sentence2": "地", "label": "-"}  # annotators did not agree
    write_lines(folder / "cmnli/dev.json", (json.dumps(row, ensure_ascii=False) for row in [unsure, *pairs]))
    choices = ["猫", "狗", "鸟"]
    c3 = [
        [
            ["男：你看见什么？", f"女：{choices[i % 3]}。"],
            [{"question": "她看见什么？", "choice": choices, "answer": choices[i % 3]}],
            f"1-{i}",
        ]
        for i in numbers
    ]
    write_json(folder / "c3/c3-d-dev.json", c3[: n // 2])
    write_json(folder / "c3/c3-m-dev.json", c3[n // 2 :])
    for split in ("dev", "test"):
        mmlu = [(texts[i], *options[i], "ABCD"[i % 4]) for i in numbers]
        write_table(folder / f"mmlu/{split}/anatomy_{split}.csv", mmlu)
        cmmlu = [(i, f"{i}加一等于几？", i, i + 1, i + 2, i + 3, "B") for i in numbers]
        write_table(folder / f"cmmlu/{split}/agronomy.csv", [("", "Question", *"ABCD", "Answer"), *cmmlu])
