"""What a model writes behind prompts under every ablation, as a resumable run: tokens, text and why each ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from adapters.ablation import Ablation
from adapters.base import BlockModel
from adapters.errors import StrataError
from analysis.data.batches import Text
from analysis.data.hashes import content_hash
from analysis.engine.decoding import decode
from analysis.engine.plan import Plan, plan
from analysis.engine.row_budget import Prompt, ablations_within, rows_of
from analysis.runs.records import Work
from analysis.runs.run import Run
from analysis.runs.scoring import Backend, Question, Scoring, local, map_documents
from analysis.runs.sweep_run import identity, tokenization

WRITTEN = "written"
LOSS = "dense_nll"  # of what is written, in nats, under the model as a whole: some studies ask for it
SLOWER = 3  # times what a token takes that is read: about what one takes that is written


@dataclass(frozen=True)
class WritingStudy:
    """Every ablation of a plan on prompts. A prompt names itself in the records, with what ends its text and how it is sampled."""

    model: BlockModel
    plan: Plan
    prompts: Sequence[Prompt]
    names: Sequence[str] | None = None  # of the prompts, in errors
    memory: int | None = None  # bytes of pasts and logits

    def __post_init__(self) -> None:
        if bad := next((a for a in self.plan.ablations if a.edit != "zero"), None):
            raise StrataError(f"text is written without parts that leave nothing behind, not {bad}: take the edit zero")

    @classmethod
    def of(cls, model: BlockModel, ablations: Sequence[Ablation], prompts: Sequence[Prompt], **options: Any) -> WritingStudy:
        return cls(model, plan(model.spec, ablations), prompts, **options)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Of all that this model writes."""
        about = identity(self.model, Text())
        ends = {"ends": sorted(self.model.end_tokens)}
        return {k: about[k] for k in ("model", "dtype", "device")} | {"text": tokenization(self.model) | ends, "writes": True}

    @cached_property
    def keys(self) -> list[str]:
        return [content_hash([prompt.tokens, prompt.most, prompt.until, asdict(prompt.sampling)]) for prompt in self.prompts]

    @property
    def steps(self) -> int:
        """What `progress` counts up to: texts."""
        return len(self.plan.ablations) * len(self.prompts)

    @property
    def flops(self) -> int:
        """As many as reading would take in the time that reading the prompts and writing as much as is allowed takes."""
        tokens = sum(len(prompt.tokens) + SLOWER * prompt.most for prompt in self.prompts)
        return self.model.spec.flops_per_token * len(self.plan.ablations) * tokens

    @property
    def window(self) -> int:
        """Tokens of the longest prompt with its text."""
        return max((len(prompt.tokens) + prompt.most for prompt in self.prompts), default=1)

    def open(self, folder: Path) -> Run:
        return Run(folder, self.identity, (WRITTEN, LOSS))

    def texts(self, folder: Path, progress: Callable[[int], None] = lambda n: None, backend: Backend = local) -> np.ndarray:
        """What is not in the folder yet is written: (ablations, prompts), objects of `tokens`, `text` and `why`."""
        scoring = self.scoring(progress)
        return scoring.asked.answer(map_documents(self.open(folder), scoring, backend))[WRITTEN]

    def scoring(self, progress: Callable[[int], None] = lambda n: None) -> Scoring:
        """How the texts come about: a unit is as many prompts as are decoded together."""
        most = rows_of(self.model.device)

        def units(work: Work, which: Sequence[int]) -> list[Sequence[int]]:
            size = max(1, most // len(work.ablations))
            return [which[first : first + size] for first in range(0, len(which), size)]

        def answer(work: Work, which: Sequence[int]) -> Iterator[tuple[Sequence[int], Mapping[str, np.ndarray]]]:
            lacking = Plan(self.model.spec, tuple(work.ablations), tuple(a.actions(self.model.spec) for a in work.ablations))
            names = None if self.names is None else [self.names[p] for p in which]
            done = {p: np.empty((len(work.ablations), 1), dtype=object) for p in which}
            left = dict.fromkeys(which, len(work.ablations))
            for found in decode(self.model, lacking, [self.prompts[p] for p in which], memory=self.memory, names=names):
                p = which[found.prompt]
                done[p][found.ablation, 0] = {"tokens": found.tokens, "text": found.text, "why": found.why}
                left[p] -= 1
                progress(1)
                if not left[p]:
                    yield [p], {WRITTEN: done.pop(p)}

        at_once = ablations_within(self.memory, self.model, len(self.plan.ablations), self.prompts)  # so that each part is kept
        asked = Question(self.plan.ablations, (WRITTEN,), self.keys, [[key] for key in self.keys], at_once)
        about = {"spec": asdict(self.model.spec), "prompts_hash": content_hash(self.keys)}
        return Scoring(asked, about, units, answer, lambda n: progress(n * len(self.plan.ablations)))


class OfWrittenTexts(ABC):
    """What a study that makes a table of written texts has from the study that writes them."""

    @property
    @abstractmethod
    def writing(self) -> WritingStudy: ...

    @property
    def identity(self) -> dict[str, Any]:
        return self.writing.identity

    @property
    def steps(self) -> int:
        return self.writing.steps

    @property
    def flops(self) -> int:
        return self.writing.flops

    @property
    def window(self) -> int:
        return self.writing.window

    def open(self, folder: Path) -> Run:
        return self.writing.open(folder)

    def scoring(self, progress: Callable[[int], None] = lambda n: None) -> Scoring:
        return self.writing.scoring(progress)
