"""How far the stream turns across every contiguous span of blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from adapters.ablation import Ablation
from adapters.base import BlockModel
from adapters.block import Parts
from analysis.data.batches import Batch, Text, at_once, plain_passes
from analysis.data.documents import windows_hash
from analysis.display.format import count
from analysis.engine.tokens import counted, require_finite
from analysis.runs.records import Work
from analysis.runs.run import Run
from analysis.runs.scoring import COUNTED, Question, Scoring, map_documents, on_windows
from analysis.runs.sweep_run import Progress, identity
from analysis.runs.tables import tidy, write_table
from analysis.stats.intervals import ratio

Span = tuple[int, int]  # first block, number of blocks
COLUMNS = ["model", "start", "length", "dataset", "metric", "value", "ci_low", "ci_high", "n_documents", "n_tokens"]
METRICS, ALONGSIDE = ("angular_last", "angular_all"), ("real", *COUNTED)
CHUNK = 64  # tokens whose angles are computed at once, in fp64


def all_spans(n_blocks: int) -> list[Span]:
    """Every contiguous span, the short ones first."""
    return [(start, length) for length in range(1, n_blocks + 1) for start in range(n_blocks - length + 1)]


@torch.inference_mode()
def angular(model: BlockModel, ids: Tensor, lengths: Tensor, *, first_token: bool = True) -> dict[str, np.ndarray]:
    """Angles between the streams in front of and behind every span, arccos(cos) / pi: sums (spans, D), as `all_spans`.

    `angular_last`: at the last token, as Gromov et al. (arXiv 2403.17887, equation 6) measure it; `angular_all`: over all
    tokens, without the first one when `first_token` is False. Angles are fp64 and the cosine is clamped, so that equal
    streams are at zero, never NaN. Holds the streams of the batch, (blocks + 1, D, T, d), and no more.
    """
    ids, lengths = ids.to(model.device), lengths.to(model.device)
    real, streams = counted(ids, lengths, first_token), list[Tensor]()

    def tap(i: int, parts: Parts) -> None:
        streams.extend([parts.x_in, parts.x_out] if i == 0 else [parts.x_out])

    model.stream(ids, lengths=lengths, tap=tap)
    starts, counts = np.array(all_spans(len(model.blocks))).T
    last, everywhere = [], []
    for d, n in enumerate(lengths.tolist()):
        tokens = torch.stack([x[d, :n][real[d, :n]] for x in streams], 1)  # (tokens, blocks + 1, d)
        angles = [_angles(chunk) for chunk in tokens.split(CHUNK)]  # (tokens, blocks + 1, blocks + 1)
        last.append(angles[-1][-1][starts, starts + counts])
        everywhere.append(sum(a.sum(0) for a in angles)[starts, starts + counts])  # type: ignore[index]
    sums = {"angular_last": torch.stack(last, -1), "angular_all": torch.stack(everywhere, -1)}
    for name, values in sums.items():
        require_finite(values, f"{name} of {model.spec.name}")
    return {name: values.cpu().numpy() for name, values in sums.items()}


def _angles(x: Tensor) -> Tensor:
    """Angles between all pairs of vectors x (..., n, d), as shares of pi: (..., n, n)."""
    x = x.double()
    x = x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return (x @ x.mT).clamp(-1, 1).arccos() / math.pi


@dataclass(frozen=True)
class SpanStudy:
    """Angular distance of every contiguous span, as a table of its own: start, length instead of block, head."""

    model: BlockModel
    text: Text
    first_token: bool = True

    @property
    def identity(self) -> dict[str, Any]:
        return identity(self.model, self.text) | {"spans": {"first_token": self.first_token}}

    @property
    def documents(self) -> list[str]:
        """What records call the documents, in their order."""
        return [window.id for window in self.text.windows(self.model)]

    @property
    def passes(self) -> int:
        """Through the blocks' part of its files, where weights are streamed."""
        return plain_passes(self.model, self.text)

    @property
    def sentence(self) -> str:
        """What is measured."""
        return f"angles of {count(len(all_spans(len(self.model.blocks))), 'span')} of blocks"

    @property
    def flops(self) -> int:
        """Of the whole study, about; angles are left out."""
        spec = self.model.spec
        return (spec.flops_per_token - spec.unembed_flops) * len(self.documents) * self.window

    @property
    def window(self) -> int:
        return self.text.window

    def only(self, documents: Sequence[int]) -> SpanStudy:
        """The same on some of the documents, by number."""
        return replace(self, text=replace(self.text, only=tuple(documents)))

    def open(self, folder: Path) -> Run:
        return Run(folder, self.identity, (*METRICS, *ALONGSIDE))

    def run(self, folder: Path, progress: Progress = lambda n: None) -> pd.DataFrame:
        """As ImportanceStudy.run."""
        scoring = self.scoring(progress)
        scores = scoring.asked.answer(map_documents(self.open(folder), scoring), ALONGSIDE)
        counts = {"angular_last": np.ones_like(scores["real"]), "angular_all": scores["real"]}
        rows = [
            (self.model.spec.name, *span, self.text.corpus, metric, *ratio(scores[metric][i], n), len(n), int(n.sum()))
            for metric, n in counts.items()
            for i, span in enumerate(all_spans(len(self.model.blocks)))
        ]
        table = tidy(rows, COLUMNS)
        return write_table(self.open(folder), table, self.documents, self.model.spec)

    def scoring(self, progress: Progress = lambda n: None) -> Scoring:
        windows = self.text.windows(self.model)
        parts = [Ablation(blocks=frozenset(range(start, start + length))) for start, length in all_spans(len(self.model.blocks))]

        def score(batch: Batch, work: Work) -> dict[str, np.ndarray]:
            progress(len(batch.windows))
            rows = [parts.index(part) for part in work.ablations]
            found = angular(self.model, batch.ids, batch.lengths, first_token=self.first_token)
            return {name: found[name][rows] for name in work.metrics} | {"real": batch.lengths.numpy() - (not self.first_token)}

        about = {"spec": asdict(self.model.spec), "documents_hash": windows_hash(windows), "read": self.text.reading(self.model).to_json()}
        return on_windows(
            Question.of(parts, METRICS, windows),
            about,
            windows,
            self.model,
            lambda work: at_once(self.model, self.text.window + 2),
            score,
            progress,
        )


def straightest(table: pd.DataFrame) -> pd.DataFrame:
    """The row of the least angle at the last token for each number of blocks, from SpanStudy's table."""
    rows = table[table["metric"] == "angular_last"]
    return rows.loc[rows.groupby("length")["value"].idxmin()]
