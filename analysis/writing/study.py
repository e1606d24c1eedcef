"""What every ablation writes behind the beginnings of documents: a study that shards divide."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from adapters.ablation import Ablation
from adapters.base import BlockModel
from analysis.data.batches import Text
from analysis.engine.cost import seconds
from analysis.engine.plan import Plan, plan
from analysis.engine.row_budget import Prompt
from analysis.engine.sampling import Sampling
from analysis.runs.records import Work
from analysis.runs.scoring import Scoring, map_documents
from analysis.runs.tables import write_table
from analysis.runs.writing import LOSS, WRITTEN, OfWrittenTexts, WritingStudy
from analysis.runs.writing_cost import WritingCost, writing_cost
from analysis.tasks.likelihoods import batches
from analysis.tasks.requests import Request, prompt_ids
from analysis.writing.table import losses_under, writing_table

GREEDY = Sampling()


def beginnings(model: BlockModel, text: Text, most: int, until: Sequence[str] = (), sampling: Sampling = GREEDY) -> list[Prompt]:
    """The windows of a text as prompts, behind which at most `most` tokens are written."""
    return [Prompt(prompt_ids(model, window.text)[: text.window], most, tuple(until), sampling) for window in text.windows(model)]


@dataclass(frozen=True)
class BeginningsStudy(OfWrittenTexts):
    """Every ablation of a plan on prompts that are the beginnings of the documents of a text."""

    plan: Plan
    model: BlockModel
    prompts: Sequence[Prompt]
    dataset: str

    @classmethod
    def of(cls, model: BlockModel, ablations: Sequence[Ablation], text: Text, most: int, **options: Any) -> BeginningsStudy:
        """`options`: as `beginnings` takes them."""
        return cls(plan(model.spec, ablations), model, beginnings(model, text, most, **options), text.corpus)

    @cached_property
    def writing(self) -> WritingStudy:
        return WritingStudy(self.model, self.plan, self.prompts)

    @property
    def documents(self) -> list[str]:
        return self.writing.keys

    def only(self, documents: Sequence[int]) -> BeginningsStudy:
        """The same on some of the documents, by number."""
        return replace(self, prompts=[self.prompts[d] for d in documents])

    def scoring(self, progress: Callable[[int], None] = lambda n: None) -> Scoring:
        """The texts, and their losses where they are written: what makes the table of shards has no weights."""
        texts = self.writing.scoring(progress)

        def answer(work: Work, which: Sequence[int]) -> Iterator[tuple[Sequence[int], Mapping[str, np.ndarray]]]:
            for unit, found in texts.answer(work, which):
                yield unit, {**found, LOSS: losses_under(self.model, [self.prompts[p] for p in unit], found[WRITTEN])}

        return replace(texts, asked=replace(texts.asked, metrics=(WRITTEN, LOSS)), answer=answer)

    @property
    def cost(self) -> WritingCost:
        """At most, as `writing_cost`; with the losses, for which the model reads all texts behind each prompt once more."""
        texts, spec, asked, reader = writing_cost(self.writing), self.model.spec, self.scoring().asked, self.model.reader
        parts = [range(len(part.ablations)) for part in Work.of(asked.ablations, asked.metrics).parts(asked.at_once)] if reader else []
        longest = [[[Request(prompt.tokens, (a,) * prompt.most)] for a in part] for part in parts for prompt in self.prompts]
        passes = sum(1 for texts_of_one in longest for _ in batches(self.model, plan(spec, []), texts_of_one))
        read = passes * reader.bytes_of(range(len(self.model.blocks))) if reader else 0
        flops = spec.flops_per_token * len(self.plan.ablations) * sum(len(prompt.tokens) + prompt.most for prompt in self.prompts)
        more = seconds(self.model, flops, self.writing.window, read)
        return replace(texts, passes=texts.passes + passes, weights_read=texts.weights_read + read, seconds=texts.seconds + more)

    def run(self, folder: Path, progress: Callable[[int], None] = lambda n: None) -> pd.DataFrame:
        """Writes what the folder does not hold yet and returns the tidy table of texts, also written as summary.csv."""
        run, scoring = self.open(folder), self.scoring(progress)
        found = scoring.asked.answer(map_documents(run, scoring))
        table = writing_table(self.writing, found[WRITTEN], found[LOSS], self.dataset)
        return write_table(run, table, self.documents, self.model.spec)
