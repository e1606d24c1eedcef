"""What a pruned model writes beside the unpruned one, for its card: a few texts, and scores of more."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from adapters.base import BlockModel
from adapters.errors import StrataError
from analysis.checkpoints.prune import PruningJob
from analysis.data.batches import tokenizer_of
from analysis.display.format import bounded, count, escape
from analysis.engine.decoding import decode
from analysis.engine.plan import plan
from analysis.engine.row_budget import Prompt
from analysis.stats.intervals import Interval, ratio
from analysis.tasks.likelihoods import likelihoods
from analysis.tasks.requests import Request, prompt_ids
from analysis.writing.table import TITLES, by_prompt

PROMPTS, TOKENS = 12, 32  # texts, and the length of a prompt and of what is written
SHOWN = 2  # texts on the card


class Samples(NamedTuple):
    """Texts behind the same prompts, and their scores, the unpruned model's first."""

    prompts: list[str]
    texts: list[tuple[str, str]]
    scores: dict[str, tuple[Interval, Interval]]

    def to_json(self) -> dict[str, Any]:
        pairs = {name: {"dense": dense.value, "pruned": list(pruned)} for name, (dense, pruned) in self.scores.items()}
        return {"prompts": len(self.prompts), "tokens": TOKENS, "scores": pairs}

    def lines(self) -> list[str]:
        """Markdown."""
        rows = [f"| {TITLES[name]} | {bounded(dense)} | {bounded(pruned)} |" for name, (dense, pruned) in self.scores.items()]
        shown = [
            line
            for prompt, (dense, pruned) in list(zip(self.prompts, self.texts, strict=True))[:SHOWN]
            for line in (f"> {escape(prompt)}", "", f"- source model: {escape(dense)}", f"- this model: {escape(pruned)}", "")
        ]
        return [
            "## What it writes",
            f"Greedy continuations, up to {TOKENS} tokens, of {count(len(self.prompts), 'beginning')} of held-out documents.",
            "",
            "| measure | source model | this model |",
            "| :--- | ---: | ---: |",
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
    metrics = by_prompt(found, _losses(job.model, prompts, found))
    scores = {name: (ratio(sums[0], counts[0]), ratio(sums[1], counts[1])) for name, (sums, counts) in metrics.items()}
    texts = [(dense["text"], pruned["text"]) for dense, pruned in found.T]
    return Samples([tokenizer_of(job.model).decode(list(prompt.tokens)) for prompt in prompts], texts, scores)


def _written(model: BlockModel, prompts: list[Prompt]) -> np.ndarray:
    found = np.empty(len(prompts), dtype=object)
    for written in decode(model, plan(model.spec, []), prompts):
        found[written.prompt] = {"tokens": written.tokens, "text": written.text, "why": written.why}
    return found


@torch.inference_mode()
def _losses(model: BlockModel, prompts: list[Prompt], found: np.ndarray) -> np.ndarray:
    """Of each text (models, prompts) under the unpruned model."""
    requests = [Request(prompt.tokens, tuple(text["tokens"])) for row in found for prompt, text in zip(prompts, row, strict=True)]
    return -likelihoods(model, plan(model.spec, []), requests).nats[0].numpy().reshape(found.shape)
