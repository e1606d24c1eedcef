"""Studies: a model, a text and a question, from windows to one tidy table. Every study is a resumable run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from adapters.ablation import Ablation
from adapters.base import BlockModel
from adapters.errors import StrataError
from adapters.tokenizers import SPECIAL_TOKENS
from analysis.data.batches import Batch, Text, batches, tokenizer_hash, tokenizer_of
from analysis.data.documents import Window, require_disjoint, windows_hash
from analysis.engine.ablations import row_key
from analysis.engine.mean_ablation import part_means, with_means
from analysis.engine.passes import batch_size
from analysis.engine.plan import Plan, plan
from analysis.engine.sweep import room_for, sweep
from analysis.runs.changed import model_hash
from analysis.runs.doubts import say, worse_than_guessing
from analysis.runs.records import Work
from analysis.runs.run import Run
from analysis.runs.scoring import COUNTED, Question, Scoring, map_documents, on_windows
from analysis.runs.tables import COLUMNS, key, tidy, write_table
from analysis.stats.intervals import Interval, Significance, differs_by_family, ratio

FIRST_ORDER, SIZE = "first_order", "size"  # what records may hold beside scores: what goes with them (`analysis.control`)
Progress = Callable[[int], None]  # told how many more steps are done


def tokenization(model: BlockModel) -> dict[str, Any]:
    """How a model reads a text."""
    tokenizer = tokenizer_of(model)
    return {"bos": tokenizer.bos_id, "special_tokens": SPECIAL_TOKENS, "tokenizer": tokenizer_hash(tokenizer)}


def identity(model: BlockModel, text: Text) -> dict[str, Any]:
    """What records must agree in to be compared; in every manifest. Of a model that no files hold as it is, with a hash of what it is."""
    spec = model.spec
    about = {"name": spec.name, "family": spec.family, "variant": spec.variant, "hash": spec.source_hash, "blocks": len(spec.blocks)}
    return {
        "model": about | ({} if model.origin else {"changed": model_hash(model)}),
        "text": text.identity | tokenization(model),
        "dtype": model.precision,
        "device": model.stand_in_for or model.device.type,
    }


@dataclass(frozen=True)
class SweepStudy:
    """Perplexity, and divergence from the dense model, of every ablation on the same windows.

    Parts that are taken out with the edit "mean" leave their means over `calibration` behind. Raises StrataError where there
    is no such text.
    """

    model: BlockModel
    plan: Plan
    text: Text
    kl: bool = True
    memory: int | None = None  # bytes
    calibration: Text | None = None  # given for ablations to means alone; records of the others then lie beside theirs

    def __post_init__(self) -> None:
        if self.calibration is None and any(a.edit == "mean" for a in self.plan.ablations):
            raise StrataError("mean ablation has no calibration text: give one that shares no document with the text that is scored")

    @classmethod
    def of(cls, model: BlockModel, ablations: Sequence[Ablation], text: Text, **options: Any) -> SweepStudy:
        return cls(model, plan(model.spec, ablations), text, **options)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Of all sweeps of this model and text, and of the text that means are over; ablations stand in the records."""
        if (calibration := self.calibration) is None:
            return identity(self.model, self.text)
        read = calibration.identity | {"windows": windows_hash(calibration.windows(self.model))}
        return identity(self.model, self.text) | {"calibration": read}

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("nll", "kl") if self.kl else ("nll",)

    @property
    def steps(self) -> int:
        """What `progress` counts up to: streams that leave a block, times documents."""
        return steps(self.plan)

    @property
    def documents(self) -> list[str]:
        """What records call the documents, in their order."""
        return [window.id for window in self.text.windows(self.model)]

    @property
    def flops(self) -> int:
        """Of the whole study, about."""
        return self.plan.flops_per_token * len(self.documents) * self.window

    @property
    def window(self) -> int:
        return self.text.window

    def only(self, documents: Sequence[int]) -> SweepStudy:
        """The same on some of the documents, by number."""
        return replace(self, text=replace(self.text, only=tuple(documents)))

    def open(self, folder: Path) -> Run:
        return Run(folder, self.identity, ("nll", "kl", FIRST_ORDER, SIZE, *COUNTED))

    def planned(self, folder: Path) -> int:
        """On how many documents the same was asked before."""
        return self.open(folder).planned(self.plan.ablations)

    def run(self, folder: Path, progress: Progress = lambda n: None) -> pd.DataFrame:
        """Scores what the folder does not hold yet and returns the tidy table, which is also written into summary.csv.

        What is returned is of the study's ablations and documents alone; rows of summary.csv that are of more documents stay.
        """
        table = sweep_table(self.plan, self.scores(folder, progress), self.text)
        return write_table(self.open(folder), table, self.documents, self.model.spec)

    def scores(self, folder: Path, progress: Progress = lambda n: None) -> dict[str, np.ndarray]:
        """Sums per document by metric, (ablations, documents), with `tokens` and `bytes` (documents,)."""
        return self.scores_of(folder, self.text.windows(self.model), progress)

    def scores_of(self, folder: Path, windows: list[Window], progress: Progress = lambda n: None) -> dict[str, np.ndarray]:
        """The same on some of the windows."""
        run, scoring = self.open(folder), self.scoring(progress, windows)
        sums = scoring.asked.answer(map_documents(run, scoring), COUNTED)
        doubt = worse_than_guessing(self.model.spec, sums["nll"][0].sum() / sums["tokens"].sum())
        run.keep(doubt)
        say(doubt)
        return sums

    def scoring(self, progress: Progress = lambda n: None, windows: list[Window] | None = None) -> Scoring:
        """Of the windows, all of them where nothing else is said. Raises StrataError when memory is too small for the whole of it."""
        windows = self.text.windows(self.model) if windows is None else windows
        if self.calibration is not None:
            require_disjoint(self.text.windows(self.model), self.calibration.windows(self.model))
        model_with_means = cache(self._with_means)  # made when something is scored

        def score(batch: Batch, work: Work) -> dict[str, np.ndarray]:
            model = model_with_means()
            lacking = plan(model.spec, work.ablations)  # with the dense model, which others are compared with
            progress((self.steps - steps(lacking)) * len(batch.windows))  # the rest is known
            sums = sweep(
                model,
                lacking,
                batch.ids,
                batch.lengths,
                first=batch.first,
                kl="kl" in work.metrics,
                memory=self.memory,
                names=[window.id for window in batch.windows],
                progress=lambda streams: progress(streams * len(batch.windows)),
            )
            rows = [lacking.ablations.index(ablation) for ablation in work.ablations]
            return {metric: sums[metric].numpy()[rows] for metric in work.metrics}

        def size(work: Work) -> int:
            return batch_size(self.model, plan(self.model.spec, work.ablations), len(windows), longest, self.memory, "kl" in work.metrics)

        longest = self.text.window + 2  # a window's own tokens, a BOS token, and one more where its end is cut differently
        asked = Question.of(self.plan.ablations, self.metrics, windows)
        room_for(
            self.memory, self.model, self.plan, size(Work.of(self.plan.ablations, self.metrics)), longest
        )  # before anything is written
        about = {
            "spec": asdict(self.model.spec),
            "documents_hash": windows_hash(windows),
            "read": self.text.reading(self.model).to_json(),
            "mixer_rows": self.plan.mixer_rows,
        }
        return on_windows(asked, about, windows, self.model, size, score, lambda n: progress(n * self.steps))

    def _with_means(self) -> BlockModel:
        if (calibration := self.calibration) is None:
            return self.model
        return with_means(self.model, part_means(self.model, batches(calibration.windows(self.model), self.model)))


def steps(work: Plan) -> int:
    """Streams that leave a block, and one for each ablation: what progress counts for a document."""
    return sum(level.streams for level in work.levels[1:]) + len(work.ablations)


def sweep_table(plan: Plan, scores: dict[str, np.ndarray], text: Text) -> pd.DataFrame:
    """Rows in the order of the plan, the dense model first: `ppl`, `delta_nll` and `kl` (nats per token), and a test of delta_nll.

    `p_value`, `p_adjusted` and `significant` are of delta_nll being other than 0, ablations of the same kind and edit being a family
    (see `analysis.stats.intervals.Significance`).
    """
    return table_of(plan, sweep_values(plan, scores), scores["tokens"], text)


def sweep_values(plan: Plan, scores: dict[str, np.ndarray]) -> list[dict[str, Interval]]:
    """What `sweep_table` says of each ablation, by metric."""
    tokens, nll = scores["tokens"], scores["nll"]
    found = []
    test = differs_by_family(families(plan), nll - nll[0], tokens)
    for i in range(len(plan.ablations)):
        values = {"ppl": ratio(nll[i], tokens, then=np.exp), "delta_nll": ratio(nll[i] - nll[0], tokens)}
        if "kl" in scores:
            values["kl"] = ratio(scores["kl"][i], tokens)
        found.append(values | (tested(test, i) if i else {"bits_per_byte": ratio(nll[0] / np.log(2), scores["bytes"])}))
    return found


def tested(test: Significance, row: int) -> dict[str, Interval]:
    """A test as what a table holds of it."""
    return {name: Interval(value, None, None) for name, value in test.of(row).items()}


def families(plan: Plan) -> list[str]:
    """Of each ablation of a plan: those of the same kind and edit are tested together."""
    return [f"{row_key(plan.spec, a).kind} {a.edit}" for a in plan.ablations]


def table_of(plan: Plan, values: Sequence[dict[str, Interval]], tokens: np.ndarray, text: Text) -> pd.DataFrame:
    """The tidy table of the values of each ablation."""
    rows = [
        (*key(plan.spec, ablation), text.corpus, metric, *interval, len(tokens), int(tokens.sum()))
        for ablation, found in zip(plan.ablations, values, strict=True)
        for metric, interval in found.items()
    ]
    return tidy(rows, COLUMNS)
