"""Tidy tables, one measured value a row, and their file."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from adapters.ablation import Ablation
from adapters.specs import ModelSpec
from analysis.display.format import as_csv
from analysis.engine.ablations import row_key
from analysis.runs.run import Run

KEY = ["model", "kind", "block", "head", "ablation"]  # which model, and what is taken out of it
COLUMNS = [*KEY, "dataset", "metric", "value", "ci_low", "ci_high", "n_documents", "n_tokens"]  # of a study
TYPES = {"block": "Int64", "head": "Int64", "ci_low": "float", "ci_high": "float"}  # of columns in which a cell may be missing


def key(spec: ModelSpec, ablation: Ablation) -> tuple:
    """The cells of KEY."""
    return spec.name, *row_key(spec, ablation)


def tidy(rows: Sequence[Sequence], columns: Sequence[str]) -> pd.DataFrame:
    """The rows as a table whose indices stay integers and whose bounds stay numbers where some are missing."""
    table = pd.DataFrame(rows, columns=list(columns))
    return table.astype({name: type_ for name, type_ in TYPES.items() if name in table})


def write_table(run: Run, table: pd.DataFrame, documents: Sequence[str]) -> None:
    """Into summary.csv: see Run.write_table."""
    run.write_table(as_csv(table), documents)
