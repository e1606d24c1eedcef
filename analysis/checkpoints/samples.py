"""What a pruned model writes beside the unpruned one, for its card: a few texts, and scores of more."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from adapters.base import BlockModel
from adapters.errors import StrataError
from analysis.checkpoints.prune import PruningJob
from analysis.data.batches import tokenizer_of
from analysis.display.format import bounded, count, escape, signed
from analysis.engine.decoding import decode
from analysis.engine.plan import plan
from analysis.engine.row_budget import Prompt
from analysis.stats.intervals import Interval
from analysis.tasks.requests import prompt_ids
from analysis.writing.table import TITLES, by_prompt, losses_under, of_texts

PROMPTS, TOKENS = 12, 32  # texts, and the length of a prompt and of what is written
SHOWN = 2  # texts on the card


class Scores(NamedTuple):
    dense: Interval
    pruned: Interval
    delta: Interval | None  # paired, where the measure is of a text by itself


class Samples(NamedTuple):
    """Texts behind the same prompts, the unpruned model's first, and their scores."""

    prompts: list[str]
    texts: list[tuple[str, str]]
    scores: dict[str, Scores]

    @classmethod
    def of(cls, prompts: list[str], found: np.ndarray, losses: np.ndarray) -> Samples:
        """Of texts and their losses under the unpruned model (2, prompts) each."""
        metrics = by_prompt(found, losses)
        dense, pruned = of_texts(metrics, 0), of_texts(metrics, 1)
        scores = {name: Scores(dense[name], pruned[name], pruned.get(f"delta_{name}")) for name in metrics}
        return cls(prompts, [(one["text"], other["text"]) for one, other in found.T], scores)

    def to_json(self) -> dict[str, Any]:
        each = {
            name: {"dense": dense.value, "pruned": list(pruned), "delta": list(delta) if delta else None}
            for name, (dense, pruned, delta) in self.scores.items()
        }
        return {"prompts": len(self.prompts), "tokens": TOKENS, "scores": each}

    def lines(self) -> list[str]:
        """Markdown."""
        rows = [
            f"| {TITLES[name]} | {bounded(dense)} | {bounded(pruned)} | {bounded(delta, signed) if delta else ''} |"
            for name, (dense, pruned, delta) in self.scores.items()
        ]
        shown = [
            line
            for prompt, (dense, pruned) in list(zip(self.prompts, self.texts, strict=True))[:SHOWN]
            for line in (f"> {escape(prompt)}", "", f"- source model: {escape(dense)}", f"- this model: {escape(pruned)}", "")
        ]
        return [
            "## What it writes",
            f"Greedy continuations, up to {TOKENS} tokens, of {count(len(self.prompts), 'beginning')} of held-out documents.",
            "",
            "| measure | source model | this model | difference, prompt by prompt |",
            "| :--- | ---: | ---: | ---: |",
            *rows,
            "",
            *shown,
        ]


def samples(job: PruningJob) -> Samples | str:
    """Or why there are none."""
    length = min(TOKENS, job.model.spec.max_len // 2)
    windows = job.text.windows(job.model)[:PROMPTS]
    prompts = [Prompt(prompt_ids(job.model, window.text)[:length], length) for window in windows]
    try:
        found = np.stack([_written(model, prompts) for model in (job.model, job.left.model)])
    except StrataError as error:
        return str(error)
    read = [tokenizer_of(job.model).decode(list(prompt.tokens)) for prompt in prompts]
    return Samples.of(read, found, losses_under(job.model, prompts, found))


def _written(model: BlockModel, prompts: list[Prompt]) -> np.ndarray:
    found = np.empty(len(prompts), dtype=object)
    for written in decode(model, plan(model.spec, []), prompts):
        found[written.prompt] = {"tokens": written.tokens, "text": written.text, "why": written.why}
    return found
