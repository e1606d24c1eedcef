"""Studies: a model, a text and a question, from windows to one tidy table. Every study is a resumable run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from adapters.ablation import Ablation
from adapters.base import BlockModel
from analysis.ablation import place
from analysis.corpora import Window, sample, windows_hash
from analysis.importance import measure
from analysis.plan import Plan, plan
from analysis.runs import Run
from analysis.statistics import Interval, ratio, told_from_zero
from analysis.sweep import documents_per_batch, sweep
from analysis.texts import Batch, score_documents, tokenizer_of

COLUMNS = ["kind", "block", "head", "task", "metric", "value", "ci_low", "ci_high", "n_documents", "n_tokens"]
Progress = Callable[[int], None]  # told how many steps of `Study.steps` are done


@dataclass(frozen=True, slots=True)
class Text:
    """What is read: windows of `window` tokens from `documents` documents of a split of a corpus."""

    corpus: str = "texts"
    split: str | None = "held-out"
    window: int = 128
    documents: int = 16
    seed: int = 0

    def windows(self, model: BlockModel) -> list[Window]:
        """Raises StrataError when the corpus is too short or the window longer than the model's context."""
        return sample(self.corpus, self.documents, self.window, tokenizer_of(model), split=self.split, seed=self.seed)

    @property
    def identity(self) -> dict[str, Any]:
        return {k: v for k, v in asdict(self).items() if k != "documents"}


def identity(model: BlockModel, text: Text) -> dict[str, Any]:
    """What records must agree in to be compared; in every manifest."""
    spec = model.spec
    return {
        "model": {"name": spec.name, "family": spec.family, "variant": spec.variant, "hash": spec.source_hash, "blocks": len(spec.blocks)},
        "text": text.identity | {"bos": tokenizer_of(model).bos_id},
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
    }


@dataclass(frozen=True)
class SweepStudy:
    """Perplexity, and divergence from the dense model, of every ablation on the same windows."""

    model: BlockModel
    plan: Plan
    text: Text
    kl: bool = True
    memory: int | None = None  # bytes

    @classmethod
    def of(cls, model: BlockModel, ablations: Sequence[Ablation], text: Text, **options: Any) -> SweepStudy:
        return cls(model, plan(model.spec, ablations), text, **options)

    @property
    def identity(self) -> dict[str, Any]:
        return identity(self.model, self.text) | {"ablations": [a.to_json() for a in self.plan.ablations], "kl": self.kl}

    @property
    def steps(self) -> int:
        """What `progress` counts up to: streams that leave a block, times documents."""
        return sum(out for out, _, _ in self.plan.levels[1:]) + len(self.plan.ablations)

    def run(self, folder: Path, progress: Progress = lambda n: None) -> pd.DataFrame:
        """Scores what the folder does not hold yet and returns the tidy table, which is also written as summary.csv."""
        run, windows = Run(folder, self.identity), self.text.windows(self.model)

        def score(batch: Batch) -> dict[str, np.ndarray]:
            def advanced(streams: int) -> None:
                progress(streams * len(batch.windows))

            names = [window.document for window in batch.windows]
            sums = sweep(self.model, self.plan, batch.ids, batch.lengths, kl=self.kl, memory=self.memory, names=names, progress=advanced)
            return {name: values.numpy() for name, values in sums.items()}

        size = documents_per_batch(self.model, self.plan, self.text.window + 2, self.memory)
        about = {"spec": asdict(self.model.spec), "documents_hash": windows_hash(windows), "mixer_rows": self.plan.mixer_rows}
        scores = score_documents(run, self.model, windows, size, score, about, lambda n: progress(n * self.steps))
        table = sweep_table(self.plan, scores, self.text)
        write_table(run, table)
        return table


def sweep_table(plan: Plan, scores: dict[str, np.ndarray], text: Text) -> pd.DataFrame:
    """Rows in the order of the plan, the dense model first: `ppl`, `delta_nll` and `kl` (nats a token), and `told`.

    `told` is 1 where delta_nll can be told from 0 with false discoveries held to 5 % among ablations of the same kind.
    """
    tokens, nll = scores["tokens"], scores["nll"]
    rows = []
    kinds = np.array([place(ablation)[0] for ablation in plan.ablations])
    told = np.zeros(len(kinds), dtype=bool)
    for kind in set(kinds) - {"dense"}:
        told[kinds == kind] = told_from_zero(nll[kinds == kind] - nll[0])
    for i, ablation in enumerate(plan.ablations):
        values = {"ppl": ratio(nll[i], tokens, then=np.exp), "delta_nll": ratio(nll[i] - nll[0], tokens)}
        if "kl" in scores:
            values["kl"] = ratio(scores["kl"][i], tokens)
        if i == 0:
            values["bits_per_byte"] = ratio(nll[0] / np.log(2), scores["bytes"])
        else:
            values["told"] = Interval(float(told[i]), None, None)
        rows += [(*place(ablation), text.corpus, metric, *interval, len(tokens), int(tokens.sum())) for metric, interval in values.items()]
    return _frame(rows)


@dataclass(frozen=True)
class ImportanceStudy:
    """Importance of every block from plain forward passes."""

    model: BlockModel
    text: Text
    metrics: tuple[str, ...] = ("bi",)

    @property
    def identity(self) -> dict[str, Any]:
        return identity(self.model, self.text) | {"metrics": list(self.metrics)}

    def run(self, folder: Path, progress: Progress = lambda n: None) -> pd.DataFrame:
        """As SweepStudy.run; `progress` counts documents."""
        run, windows = Run(folder, self.identity), self.text.windows(self.model)

        def score(batch: Batch) -> dict[str, np.ndarray]:
            progress(len(batch.windows))
            return measure(self.model, batch.ids, batch.lengths, self.metrics) | {"real": batch.lengths.numpy()}

        about = {"spec": asdict(self.model.spec), "documents_hash": windows_hash(windows)}
        scores = score_documents(run, self.model, windows, 8, score, about, progress)
        tokens = scores["real"]
        rows = [
            ("blocks", i, None, self.text.corpus, metric, *ratio(scores[metric][i], tokens), len(tokens), int(tokens.sum()))
            for metric in self.metrics
            for i in range(len(self.model.blocks))
        ]
        table = _frame(rows)
        write_table(run, table)
        return table


def write_table(run: Run, table: pd.DataFrame) -> None:
    run.write_text("summary.csv", table.to_csv(index=False))


def _frame(rows: list[tuple]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS).astype({"block": "Int64", "head": "Int64", "ci_low": float, "ci_high": float})


def speed(model: BlockModel, window: int) -> float:
    """FLOPs a second of a short plain forward with head, for estimates: best of three."""
    ids = torch.zeros(1, window, dtype=torch.long, device=model.device)
    work = window * plan(model.spec, []).flops_per_token
    return work / min(_timed(lambda: model.run(ids).logsumexp(-1), model.device) for _ in range(3))


def _timed(call: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    with torch.inference_mode():
        call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
