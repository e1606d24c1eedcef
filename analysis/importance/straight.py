"""The spans that turn the stream least, and whether a linear map could take their place."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from adapters.base import BlockModel
from analysis.data.batches import Text, batches
from analysis.display.format import bounded
from analysis.importance import findings
from analysis.metrics.linear_fit import COLUMNS, linear_residual
from analysis.metrics.spans import SpanStudy, straightest
from analysis.runs.settings import RunConfig, progress_fraction, run_folder
from analysis.stats.intervals import Interval

LENGTHS = (1, 2, 4, 8)  # of the spans in whose place a linear map is fitted
PER_DIMENSION, AT_MOST = 8, 4  # tokens that a map is fitted to, from up to so many times the documents that it is measured on


@dataclass(frozen=True)
class Straight:
    """Angles of all spans, and linear maps in the place of the straightest of some lengths."""

    spans: pd.DataFrame  # as SpanStudy
    maps: pd.DataFrame  # as linear_residual; empty when there were too few tokens
    tokens: int  # what the maps were fitted to
    d_model: int

    @property
    def fact(self) -> str:
        """What the maps come from."""
        each = f"{self.tokens / self.d_model:.1f} for each of the stream's {self.d_model:,} dimensions"
        return f"fitted to {self.tokens:,} tokens of calibration text, {each}; measured on the held-out text"

    @property
    def table(self) -> pd.DataFrame:
        """The straightest spans: how far they turn the stream, and which share of their work a linear map leaves."""
        rows = _chosen(self.spans).merge(self.maps, on=["start", "length"], how="left", suffixes=("", "_map"))
        table = pd.DataFrame({"span": [findings.span(*row) for row in zip(rows["start"], rows["length"], strict=True)]})
        for name, end in (("angle (half turns)", ""), ("error of a linear map", "_map")):
            columns = rows[[f"value{end}", f"ci_low{end}", f"ci_high{end}"]].astype(float)
            table[name] = [bounded(Interval(*row)) for row in columns.to_numpy()]
        return table

    @property
    def replaceable(self) -> str:
        """For which spans a linear map does the work."""
        return findings.linear(self.maps, self.tokens, self.d_model)


def straight(model: BlockModel, calibration: Text, held_out: Text, config: RunConfig) -> Straight:
    """Angles and maps come from calibration text, what the maps leave from held-out text. At most a batch of streams is held."""
    study, d = SpanStudy(model, calibration), model.spec.d_model
    spans = study.run(run_folder(config.out, study.identity), progress_fraction(config.progress, "spans", calibration.documents))
    config.progress("linear maps", 0)
    wanted = math.ceil(PER_DIMENSION * d / calibration.window)
    fitted = list(batches(calibration.at_most(min(AT_MOST * held_out.documents, wanted), model).windows(model), model))
    tokens = sum(int((batch.lengths - 1).sum()) for batch in fitted)  # the first of each is left out
    maps = pd.DataFrame(columns=COLUMNS, dtype=float)
    if tokens >= 2 * d:
        chosen = _chosen(spans)
        places = [(int(start), int(length)) for start, length in zip(chosen["start"], chosen["length"], strict=True)]
        maps = linear_residual(model, fitted, list(batches(held_out.windows(model), model)), places)
    config.progress("linear maps", 1)
    return Straight(spans, maps, tokens, d)


def _chosen(spans: pd.DataFrame) -> pd.DataFrame:
    rows = straightest(spans)
    return rows[rows["length"].isin(LENGTHS)]
