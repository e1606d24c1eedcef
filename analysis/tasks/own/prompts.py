"""What the tasks here do to rows before they ask: functions that their YAML files name. lm_eval loads this file by its path."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from datasets import Dataset
from lm_eval.tasks.coqa import utils as coqa
from lm_eval.tasks.race import preprocess_race as race

Row = Mapping[str, Any]
race_text, race_choices, race_answer = race.doc_to_text, race.doc_to_choice, race.doc_to_target
coqa_text, coqa_answers, coqa_results = coqa.doc_to_text, coqa.doc_to_target, coqa.process_results


def race_articles(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """From a row a question (ehovy/race) to a row an article, as lm_eval's race reads them (EleutherAI/race)."""
    articles: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        articles.setdefault(row["article"], []).append({key: row[key] for key in ("question", "options", "answer")})
    return [{"article": article, "problems": repr(problems)} for article, problems in articles.items()]


def race_documents(rows: Dataset) -> Dataset:
    return Dataset.from_list(race_articles(rows))


def coqa_answer(row: Row) -> str:
    """The first of those that lm_eval's coqa takes for right, as it goes on behind `A:`."""
    return f" {coqa.doc_to_target(row)[0]}"


def coqa_turns(rows: Dataset) -> Dataset:
    """A row for each question of a conversation: the story, and the questions and answers up to it."""
    return Dataset.from_list([_up_to(row, turn) for row in rows for turn in range(1, len(row["questions"]["input_text"]) + 1)])


def _up_to(row: Row, turn: int) -> dict[str, Any]:
    def cut(listed: Mapping[str, Any]) -> dict[str, Any]:
        return {"input_text": listed["input_text"][:turn]}

    more = {name: cut(found) for name, found in (row.get("additional_answers") or {}).items()}
    kept = {"id": row["id"], "story": row["story"], "questions": cut(row["questions"]), "answers": cut(row["answers"])}
    return kept | ({"additional_answers": more} if more else {})


def rouge(row: Row, results: list[str]) -> dict[str, float]:
    """F1 of words, of pairs of them and of the longest common subsequence, of stems (Lin 2004), in the first line."""
    from rouge_score.rouge_scorer import RougeScorer

    names = ["rouge1", "rouge2", "rougeL"]
    found = RougeScorer(names, use_stemmer=True).score(row["summary"], results[0].strip().split("\n")[0])
    return {name: found[name].fmeasure for name in names}


def chid_documents(rows: Dataset) -> Dataset:
    """A row for each blank: the passage with each candidate in it, and which of them is right."""
    return Dataset.from_list([blank for row in rows for blank in _blanks(row)])


def _blanks(row: Row) -> Iterator[dict[str, Any]]:
    """The other blanks of a passage hold their right idioms. Answers are in the order of the blanks."""
    answers = iter(zip(row["answers"]["text"], row["answers"]["candidate_id"], strict=True))
    for passage in row["content"]:
        parts = re.split(r"#idiom\d+#", passage)
        right = [next(answers) for _ in parts[1:]]
        for blank, (_, answer) in enumerate(right):
            others = [text for text, _ in right]
            filled = [_joined(parts, [*others[:blank], candidate, *others[blank + 1 :]]) for candidate in row["candidates"]]
            yield {"passages": filled, "answer": answer}


def _joined(parts: list[str], idioms: list[str]) -> str:
    return parts[0] + "".join(idiom + part for idiom, part in zip(idioms, parts[1:], strict=True))
