"""Tidy tables, one measured value a row, and their file."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from adapters.ablation import Ablation
from adapters.errors import visible
from adapters.specs import ModelSpec
from analysis.engine.ablations import row_key
from analysis.runs.run import Run

KEY = ["model", "kind", "block", "head", "ablation"]  # which model, and what is taken out of it
COLUMNS = [*KEY, "dataset", "metric", "value", "ci_low", "ci_high", "n_documents", "n_tokens"]  # of a study
FORMULA = ("=", "@", "+", "-")  # how a text begins that spreadsheets compute
TYPES = {"block": "Int64", "head": "Int64", "ci_low": "float", "ci_high": "float"}  # of columns in which a cell may be missing


def key(spec: ModelSpec, ablation: Ablation) -> tuple:
    """The cells of KEY."""
    return spec.name, *row_key(spec, ablation)


def tidy(rows: Sequence[Sequence], columns: Sequence[str]) -> pd.DataFrame:
    """The rows as a table whose indices stay integers and whose bounds stay numbers where some are missing."""
    table = pd.DataFrame(rows, columns=list(columns))
    return table.astype({name: type_ for name, type_ in TYPES.items() if name in table})


def as_csv(table: pd.DataFrame) -> str:
    """The table as CSV in which a spreadsheet takes no text for a formula: such a cell begins with an apostrophe. Numbers stay."""
    return table.map(lambda cell: _text(cell) if isinstance(cell, str) else cell).to_csv(index=False)


def _text(cell: str) -> str:
    shown = visible(cell)
    return f"'{shown}" if shown.startswith(FORMULA) else shown


def write_table(run: Run, table: pd.DataFrame, documents: Sequence[str]) -> None:
    """As summary.csv, unless that is of these documents and more: see Run.write_table."""
    run.write_table(as_csv(table), documents)
