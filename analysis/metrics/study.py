"""A study of importance: a model, a text and metrics, from windows to one tidy table. A resumable run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from adapters.base import BlockModel
from adapters.errors import StrataError
from adapters.plugins import noted
from analysis.data.batches import Batch, Text, at_once, plain_passes
from analysis.data.documents import windows_hash
from analysis.engine.ablations import single_ablations
from analysis.metrics.metrics import EXPERT_METRICS, METRICS, Measure, Metric, check_kinds, find_metrics, measure
from analysis.metrics.taylor import taylor
from analysis.runs.records import Work
from analysis.runs.run import Run
from analysis.runs.scoring import COUNTED, Question, Scoring, map_documents, on_windows
from analysis.runs.sweep_run import Progress, identity
from analysis.runs.tables import COLUMNS, key, tidy, write_table
from analysis.stats.intervals import ratio

TAYLOR = Metric("Taylor", lambda step: step.delta)  # its place among METRICS; gradients are measured by `taylor`
ALONGSIDE = ("real", *COUNTED)


@dataclass(frozen=True)
class ImportanceStudy:
    """Importance of every block, mixer, ffn, head or expert: `METRICS` from plain forward passes, and `taylor` from gradients.

    A metric is a name, or a function like those of `METRICS`. `first_token` False leaves the first token of each document out
    of what they measure.
    """

    model: BlockModel
    text: Text
    metrics: tuple[str | Measure, ...] = ("bi",)
    kinds: tuple[str, ...] = ("blocks",)
    first_token: bool = True

    @cached_property
    def found(self) -> dict[str, Metric]:
        """The metrics by name. Raises StrataError on an unknown one, and on two of one name."""
        return find_metrics(self.metrics, also={"taylor": TAYLOR})

    @property
    def identity(self) -> dict[str, Any]:
        """Of all measures of this model and text; parts and Strata's own metrics stand in the records, other metrics in here."""
        metrics = [noted(name, metric.title, metric.version) for name, metric in self.found.items() if metric.version]
        about = {"first_token": self.first_token, **({"metrics": metrics} if metrics else {})}
        return identity(self.model, self.text) | {"importance": about}

    def check(self) -> None:
        """Raises StrataError on an unknown metric or kind, on parts that do not exist, and on metrics of experts of other parts."""
        check_kinds(self.kinds)
        if found := [name for name in EXPERT_METRICS if name in self.found and set(self.kinds) != {"experts"}]:
            raise StrataError(f"{found[0]} is of experts, and {', '.join(self.kinds)} have no router: use `kinds` experts alone")
        single_ablations(self.model.spec, self.kinds)

    @property
    def flops_per_token(self) -> int:
        """A forward pass without head for `METRICS`; with head, and backwards at twice its cost, for `taylor`."""
        spec = self.model.spec
        stream = spec.flops_per_token - spec.unembed_flops
        return bool(self.found.keys() - {"taylor"}) * stream + ("taylor" in self.found) * 3 * spec.flops_per_token

    @property
    def passes(self) -> int:
        """Through the blocks' part of its files, where weights are streamed: one for each batch for `METRICS`, two for `taylor`."""
        return (bool(self.found.keys() - {"taylor"}) + 2 * ("taylor" in self.found)) * plain_passes(self.model, self.text)

    @property
    def sentence(self) -> str:
        """What is measured."""
        return f"{', '.join(self.found)} of {', '.join(self.kinds)}"

    @property
    def documents(self) -> list[str]:
        """What records call the documents, in their order."""
        return [window.id for window in self.text.windows(self.model)]

    @property
    def flops(self) -> int:
        """Of the whole study, about."""
        return self.flops_per_token * len(self.documents) * self.window

    @property
    def window(self) -> int:
        return self.text.window

    def only(self, documents: Sequence[int]) -> ImportanceStudy:
        """The same on some of the documents, by number."""
        return replace(self, text=replace(self.text, only=tuple(documents)))

    def open(self, folder: Path) -> Run:
        return Run(folder, self.identity, dict.fromkeys((*METRICS.own, *EXPERT_METRICS, "taylor", *self.found, *ALONGSIDE)))

    def run(self, folder: Path, progress: Progress = lambda n: None) -> pd.DataFrame:
        """As SweepStudy.run; `progress` counts documents."""
        scores = self.scores(folder, progress)
        tokens = scores["real"]
        rows = [
            (*key(self.model.spec, part), self.text.corpus, metric, *ratio(scores[metric][i], tokens), len(tokens), int(tokens.sum()))
            for metric in self.found
            for i, part in enumerate(single_ablations(self.model.spec, self.kinds))
        ]
        table = tidy(rows, COLUMNS)
        return write_table(self.open(folder), table, self.documents, self.model.spec)

    def scores(self, folder: Path, progress: Progress = lambda n: None) -> dict[str, np.ndarray]:
        """Sums over real tokens per document by metric, (parts, documents), with `real` tokens (documents,)."""
        scoring = self.scoring(progress)
        return scoring.asked.answer(map_documents(self.open(folder), scoring), ALONGSIDE)

    def scoring(self, progress: Progress = lambda n: None) -> Scoring:
        """Raises StrataError as `check` does, before anything is written."""
        self.check()
        parts, windows = single_ablations(self.model.spec, self.kinds), self.text.windows(self.model)

        def score(batch: Batch, work: Work) -> dict[str, np.ndarray]:
            progress(len(batch.windows))
            found: dict[str, np.ndarray] = {}
            if forward := {name: self.found[name] for name in work.metrics if self.found[name] is not TAYLOR}:
                names = [window.id for window in batch.windows]
                found |= measure(self.model, batch.ids, batch.lengths, forward, kinds=self.kinds, first_token=self.first_token, names=names)
            if "taylor" in work.metrics:
                found["taylor"] = taylor(self.model, batch.ids, batch.lengths, kinds=self.kinds)
            rows = [parts.index(part) for part in work.ablations]
            return {name: values[rows] for name, values in found.items()} | {"real": batch.lengths.numpy() - (not self.first_token)}

        about = {"spec": asdict(self.model.spec), "documents_hash": windows_hash(windows), "read": self.text.reading(self.model).to_json()}
        asked = Question.of(parts, list(self.found), windows)
        return on_windows(asked, about, windows, self.model, lambda work: at_once(self.model, self.text.window + 2), score, progress)
