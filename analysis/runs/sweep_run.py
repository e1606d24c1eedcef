"""Studies: a model, a text and a question, from windows to one tidy table. Every study is a resumable run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from adapters.ablation import Ablation
from adapters.base import BlockModel
from adapters.errors import StrataError, unknown
from adapters.tokenizers import SPECIAL_TOKENS
from analysis.data.batches import Batch, Text, batches, tokenizer_hash, tokenizer_of
from analysis.data.documents import Window, require_disjoint, windows_hash
from analysis.engine.ablations import row_key
from analysis.engine.mean_ablation import FILLS, filled, head_means
from analysis.engine.plan import Plan, plan
from analysis.engine.sweep import documents_per_batch, streams_within, sweep
from analysis.runs.doubts import say, worse_than_guessing
from analysis.runs.run import Run
from analysis.runs.scoring import COUNTED, score_documents
from analysis.runs.tables import COLUMNS, key, tidy, write_table
from analysis.stats.intervals import Interval, differs_from_zero, ratio

Progress = Callable[[int], None]  # told how many more steps are done


def tokenization(model: BlockModel) -> dict[str, Any]:
    """How a model reads a text."""
    tokenizer = tokenizer_of(model)
    return {"bos": tokenizer.bos_id, "special_tokens": SPECIAL_TOKENS, "tokenizer": tokenizer_hash(tokenizer)}


def identity(model: BlockModel, text: Text) -> dict[str, Any]:
    """What records must agree in to be compared; in every manifest."""
    spec = model.spec
    return {
        "model": {"name": spec.name, "family": spec.family, "variant": spec.variant, "hash": spec.source_hash, "blocks": len(spec.blocks)},
        "text": text.identity | tokenization(model),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
    }


@dataclass(frozen=True)
class SweepStudy:
    """Perplexity, and divergence from the dense model, of every ablation on the same windows.

    Heads that are taken out leave zero behind or, with `fill` "mean", their means over `calibration`. Raises StrataError on
    an unknown fill, on means without calibration text, and on means of anything but heads.
    """

    model: BlockModel
    plan: Plan
    text: Text
    kl: bool = True
    memory: int | None = None  # bytes
    fill: str = "zero"
    calibration: Text | None = None

    def __post_init__(self) -> None:
        if self.fill not in FILLS:
            raise unknown("fill", self.fill, FILLS)
        if self.fill == "mean" and self.calibration is None:
            raise StrataError("mean ablation has no calibration text: give one that shares no document with the text that is scored")
        if self.fill == "mean" and any(a.blocks or a.mixers or a.ffns for a in self.plan.ablations):
            raise StrataError("mean ablation is of heads: take --kind heads or kv_groups, or --fill zero")

    @classmethod
    def of(cls, model: BlockModel, ablations: Sequence[Ablation], text: Text, **options: Any) -> SweepStudy:
        return cls(model, plan(model.spec, ablations), text, **options)

    @property
    def identity(self) -> dict[str, Any]:
        fill: dict[str, Any] = {"fill": self.fill} if any(a.heads for a in self.plan.ablations) else {}
        if self.fill == "mean" and self.calibration:
            fill["calibration"] = self.calibration.identity | {"windows": windows_hash(self.calibration.windows(self.model))}
        return identity(self.model, self.text) | {"ablations": [a.to_json() for a in self.plan.ablations], "kl": self.kl} | fill

    @property
    def steps(self) -> int:
        """What `progress` counts up to: streams that leave a block, times documents."""
        return sum(out for out, _, _ in self.plan.levels[1:]) + len(self.plan.ablations)

    @property
    def documents(self) -> list[str]:
        """What records call the documents, in their order."""
        return [window.id for window in self.text.windows(self.model)]

    def open(self, folder: Path) -> Run:
        n = len(self.plan.ablations)
        return Run(folder, self.identity, {"nll": n, **({"kl": n} if self.kl else {}), **COUNTED})

    def run(self, folder: Path, progress: Progress = lambda n: None) -> pd.DataFrame:
        """Scores what the folder does not hold yet and returns the tidy table, which is also written as summary.csv.

        What is returned is of the study's documents alone; a summary.csv of these and more stays as it is.
        """
        table = sweep_table(self.plan, self.scores(folder, progress), self.text)
        write_table(self.open(folder), table, self.documents)
        return table

    def scores(self, folder: Path, progress: Progress = lambda n: None) -> dict[str, np.ndarray]:
        """Sums per document by metric, (ablations, documents), with `tokens` and `bytes` (documents,)."""
        return self.scores_of(folder, self.text.windows(self.model), progress)

    def scores_of(self, folder: Path, windows: list[Window], progress: Progress = lambda n: None) -> dict[str, np.ndarray]:
        """The same on some of the windows."""
        run, model = self.open(folder), self._filled()

        def score(batch: Batch) -> dict[str, np.ndarray]:
            def advanced(streams: int) -> None:
                progress(streams * len(batch.windows))

            names = [window.id for window in batch.windows]
            sums = sweep(
                model,
                self.plan,
                batch.ids,
                batch.lengths,
                first=batch.first,
                kl=self.kl,
                memory=self.memory,
                names=names,
                progress=advanced,
            )
            return {name: values.numpy() for name, values in sums.items()}

        longest = self.text.window + 2  # a window's own tokens, a BOS token, and one more where its end is cut differently
        size = documents_per_batch(self.model, self.plan, longest, self.memory)
        streams_within(self.memory, self.model, self.plan, size, longest)  # an error before anything is written
        about = {
            "spec": asdict(self.model.spec),
            "documents_hash": windows_hash(windows),
            "read": self.text.reading(self.model).to_json(),
            "mixer_rows": self.plan.mixer_rows,
        }
        sums = score_documents(run, self.model, windows, size, score, about, lambda n: progress(n * self.steps))
        doubt = worse_than_guessing(self.model.spec, sums["nll"][0].sum() / sums["tokens"].sum())
        run.keep(doubt)
        say(doubt)
        return sums

    def _filled(self) -> BlockModel:
        if self.fill == "zero" or self.calibration is None:
            return self.model
        windows = self.calibration.windows(self.model)
        require_disjoint(self.text.windows(self.model), windows)
        return filled(self.model, head_means(self.model, batches(windows, self.model)))


def sweep_table(plan: Plan, scores: dict[str, np.ndarray], text: Text) -> pd.DataFrame:
    """Rows in the order of the plan, the dense model first: `ppl`, `delta_nll` and `kl` (nats a token), and `significant`.

    `significant` is 1 where delta_nll can be told from 0 with false discoveries held to 5 % among ablations of the same kind.
    """
    tokens, nll = scores["tokens"], scores["nll"]
    rows = []
    kinds = np.array([row_key(plan.spec, ablation).kind for ablation in plan.ablations])
    significant = np.zeros(len(kinds), dtype=bool)
    for kind in set(kinds) - {"dense"}:
        significant[kinds == kind] = differs_from_zero(nll[kinds == kind] - nll[0], tokens)
    for i, ablation in enumerate(plan.ablations):
        values = {"ppl": ratio(nll[i], tokens, then=np.exp), "delta_nll": ratio(nll[i] - nll[0], tokens)}
        if "kl" in scores:
            values["kl"] = ratio(scores["kl"][i], tokens)
        if i == 0:
            values["bits_per_byte"] = ratio(nll[0] / np.log(2), scores["bytes"])
        else:
            values["significant"] = Interval(float(significant[i]), None, None)
        rows += [
            (*key(plan.spec, ablation), text.corpus, metric, *interval, len(tokens), int(tokens.sum()))
            for metric, interval in values.items()
        ]
    return tidy(rows, COLUMNS)
