"""Tidy tables, one measured value a row, and their file."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from adapters.ablation import Ablation
from adapters.specs import ModelSpec
from analysis.display.format import as_csv
from analysis.engine.ablations import row_key
from analysis.runs.run import Run

KEY = ["model", "kind", "block", "head", "expert", "ablation"]  # which model, and what is taken out of it
COLUMNS = [*KEY, "dataset", "metric", "value", "ci_low", "ci_high", "n_documents", "n_tokens"]  # of a study
WITHOUT_EXPERTS = [name for name in COLUMNS if name != "expert"]  # of tables that were written before there were any
ORIGINAL = "original_block"  # beside them, of a model that was pruned: the number of the block in the one that it came from
TYPES = dict.fromkeys(("block", ORIGINAL, "head", "expert"), "Int64") | dict.fromkeys(("ci_low", "ci_high"), "float")  # may be missing


def key(spec: ModelSpec, ablation: Ablation) -> tuple:
    """The cells of KEY."""
    return spec.name, *row_key(spec, ablation)


def tidy(rows: Sequence[Sequence], columns: Sequence[str]) -> pd.DataFrame:
    """The rows as a table whose indices stay integers and whose bounds stay numbers where some are missing."""
    table = pd.DataFrame(rows, columns=list(columns))
    return table.astype({name: type_ for name, type_ in TYPES.items() if name in table})


def with_original(table: pd.DataFrame, spec: ModelSpec) -> pd.DataFrame:
    """The table, of a pruned model with the column ORIGINAL at its end."""
    if not spec.kept or "block" not in table:
        return table
    return table.assign(**{ORIGINAL: table["block"].map(dict(enumerate(spec.kept)), na_action="ignore").astype("Int64")})


def write_table(run: Run, table: pd.DataFrame, documents: Sequence[str], spec: ModelSpec) -> pd.DataFrame:
    """Into summary.csv, as Run.write_table, `with_original`; returns what was written."""
    table = with_original(table, spec)
    run.write_table(as_csv(table), documents)
    return table
