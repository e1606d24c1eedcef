"""Ten rows of every task whose answers are written, in their makers' layouts, and right answers to them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from tests.analysis.tasks.makers import sentence, write_json, write_lines

ADD = 'def add{n}(x):\n    """Adds {n}."""\n'


def write(folder: Path, n: int = 10) -> None:
    numbers = range(n)
    sums = [{"question": f"How much is {i} and {i + 1}?", "answer": f"It is {2 * i + 1}.\n#### {2 * i + 1}"} for i in numbers]
    write_lines(folder / "gsm8k/test.jsonl", map(json.dumps, sums))
    train = [{"question": f"How much is {i} and 100?", "answer": f"#### {i + 100}"} for i in numbers]
    write_lines(folder / "gsm8k/train.jsonl", map(json.dumps, train))
    (folder / "humaneval").mkdir()
    with gzip.open(folder / "humaneval/HumanEval.jsonl.gz", "wt") as file:
        for i in numbers:
            test = f"def check(candidate):\n    assert candidate(1) == {i + 1}\n"
            problem = {"task_id": f"HumanEval/{i}", "prompt": ADD.format(n=i), "canonical_solution": f"    return x + {i}\n"}
            file.write(json.dumps(problem | {"test": test, "entry_point": f"add{i}"}) + "\n")
    problems = [
        {
            "task_id": 11 + i,
            "text": f"Write a function that adds {i}.",
            "code": f"def add(x):\r\n  return x + {i}",
            "test_list": [f"assert add({x}) == {x + i}" for x in (1, 2, 3)],
            "test_setup_code": "",
            "challenge_test_list": [],
        }
        for i in numbers
    ]
    write_lines(folder / "mbpp/mbpp.jsonl", map(json.dumps, [problems[0] | {"task_id": 2}, *problems]))
    talks = [
        {
            "id": str(i),
            "story": sentence(i, 8),
            "questions": [{"input_text": f"Who sat {turn}?", "turn_id": turn} for turn in (1, 2, 3)],
            "answers": [{"input_text": f"the cat {turn}", "turn_id": turn} for turn in (1, 2, 3)],
            "additional_answers": {
                str(who): [{"input_text": f"{said} {turn}", "turn_id": turn} for turn in (1, 2, 3)]
                for who, said in enumerate(("cat", "The Cat", "a red cat"))
            },
        }
        for i in numbers
    ]
    write_json(folder / "coqa/coqa-dev-v1.0.json", {"version": "1.0", "data": talks})
    asked = [
        {"Question": f"Who is {i}?", "QuestionId": str(i), "Answer": {"Value": f"Cat {i}", "Aliases": [f"The cat {i}"]}} for i in numbers
    ]
    write_json(folder / "triviaqa/wikipedia-dev.json", {"Data": asked})
    examples = [{"input": f"not {i % 2 == 0} is", "target": str(i % 2 == 1)} for i in numbers]
    write_json(folder / "bbh/boolean_expressions.json", {"canary": "x", "examples": examples})
    news = [{"id": str(i), "document": sentence(i, 8), "summary": sentence(i + 50, 4)} for i in numbers]
    write_lines(folder / "xsum/test.jsonl", map(json.dumps, news))


RIGHT = {  # the text that answers a document, and the metric that says so
    "gsm8k": (lambda doc: " " + doc["answer"], "exact_match,strict-match"),
    "gsm8k_cot": (lambda doc: f" The answer is {doc['answer'].split('#### ')[1]}.", "exact_match,strict-match"),
    "humaneval": (lambda doc: doc["canonical_solution"], "pass@1,create_test"),
    "mbpp": (lambda doc: doc["code"], "pass_at_1"),
    "coqa": (lambda doc: " " + doc["answers"]["input_text"][-1], "f1"),
    "coqa_turns": (lambda doc: " " + doc["answers"]["input_text"][-1] + "\n", "f1"),
    "triviaqa": (lambda doc: " the cat" + doc["answer"]["value"].removeprefix("Cat"), "exact_match,remove_whitespace"),
    "bbh_cot_fewshot_boolean_expressions": (lambda doc: f" So the answer is {doc['target']}.", "exact_match,get-answer"),
    "xsum_rouge": (lambda doc: " " + doc["summary"], "rougeL"),
}
DOCUMENTS = {"coqa_turns": 30}  # 10 of every other task
