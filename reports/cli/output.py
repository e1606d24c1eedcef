"""What commands print of what they found: the parts of a model with the most important first."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from adapters.errors import visible
from analysis.display.format import bounded, count, number
from analysis.metrics.spans import straightest
from analysis.runs.tables import ORIGINAL
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, Interval

if TYPE_CHECKING:
    from analysis.checkpoints.prune import PruningJob
    from analysis.control.study import ControlledSweep
    from analysis.metrics.spans import SpanStudy
    from analysis.metrics.study import ImportanceStudy
    from analysis.runs.sequential import Outcome
    from analysis.runs.sweep_run import SweepStudy

LINES = 40  # of a table; of a longer one both ends
TITLES = {"ppl": "perplexity", "bits_per_byte": "bits per byte", "nll": "nats per token"}  # of metrics, where they are printed
NEEDED = f"needs {MIN_DOCUMENTS_FOR_CI} documents"  # in the place of an interval


def effects(table: pd.DataFrame, out: Path, as_json: bool) -> None:
    """What each part costs, or how important it is, by the tidy table of a run in `out`."""
    if as_json:
        records(table)
        return
    ranked(table, "delta_nll" if "delta_nll" in set(table["metric"]) else str(table["metric"].iloc[0]))
    for row in table[(table["kind"] == "dense") & (table["metric"] == "ppl")].to_dict("records"):
        documents = count(row["n_documents"], "document")
        print(f"perplexity of the unpruned model {number(row['value'])} over {documents}, {row['n_tokens']:,} tokens")
    where(out / "summary.csv")


def spans(table: pd.DataFrame, out: Path, as_json: bool) -> None:
    """The straightest span of each length."""
    if as_json:
        records(table)
        return
    printed = Table("blocks", "span", "angle at the last token", "95 % interval", title="the straightest span of each length")
    for row in straightest(table).to_dict("records"):
        last = row["start"] + row["length"] - 1
        printed.add_row(str(row["length"]), f"{row['start']} to {last}", number(row["value"]), _bounds(row))
    Console().print(printed)
    where(out / "summary.csv")


def evaluated(table: pd.DataFrame, study: Any, out: Path | None, as_json: bool) -> None:
    """How well a model does with all that it has: every measure of each text or task that was read; the run is in `out`, or was nowhere."""
    if as_json:
        records(table)
        return
    for row in table[~table["metric"].str.startswith("delta_") & (table["metric"] != "beats_chance")].to_dict("records"):
        print(f"{visible(row['dataset'])} {TITLES.get(row['metric'], row['metric'])} {interval(row)}")
    for name, rows in table.groupby("dataset", sort=False):
        n, tokens = rows[["n_documents", "n_tokens"]].iloc[0]
        print(f"{visible(str(name))}: {count(n, 'document')}, {tokens:,} tokens that are scored")
    cut(study) if hasattr(study, "tasks") else read(study, as_json)
    if out is not None:
        where(out / "summary.csv")


def cut(study: Any) -> None:
    """Of a benchmark, how many requests were too long."""
    if study.cut:
        print(f"{study.cut} requests exceed the context of {study.model.spec.max_len} tokens and were truncated on the left, as by lm_eval")


def texts(table: pd.DataFrame, out: Path, as_json: bool) -> None:
    """How far what each ablation writes agrees with the unpruned model's text; the run in `out` holds the texts."""
    if as_json:
        records(table)
        return
    ranked(table, "agreement", least_first=True)
    where(out / "summary.csv")


def outcome(found: Outcome, out: Path, as_json: bool) -> None:
    """What a sweep decided, which also lies in `out`."""
    if as_json:
        records(found.table)
        return
    print(found.sentence)
    where(out / "decisions.csv")


def read(study: SweepStudy | ControlledSweep | ImportanceStudy | SpanStudy | PruningJob, as_json: bool) -> None:
    """What was read of the corpus, and what was skipped."""
    if not as_json:
        print(study.text.reading(study.model).sentence)


def records(table: pd.DataFrame) -> None:
    """A table as JSON."""
    print(table.to_json(orient="records"))


def where(path: Path) -> None:
    """Where a table lies."""
    print(visible(f"table: {path}"))


def ranked(table: pd.DataFrame, metric: str, *, least_first: bool = False) -> None:
    """One metric of every part but the dense model, the most important first; of a long table both ends."""
    rows = table[(table["metric"] == metric) & (table["kind"] != "dense")].sort_values("value", ascending=least_first)
    long = len(rows) > LINES
    places = ["block", *[ORIGINAL] * (ORIGINAL in rows), "head", *["expert"] * bool(rows["expert"].notna().any())]
    title = "least first" if least_first else "most important first"
    names = [column.replace(ORIGINAL, "original") for column in places]
    printed = Table("kind", *names, metric, "95 % interval", title=title + (", both ends" if long else ""))
    for row in (pd.concat([rows.head(10), rows.tail(10)]) if long else rows).to_dict("records"):
        place = ("" if pd.isna(row[c]) else str(row[c]) for c in places)
        printed.add_row(f"{row['kind']}{' (mean)' * row['ablation'].endswith('(mean)')}", *place, number(row["value"]), _bounds(row))
    Console().print(printed)


def interval(row: Mapping[Any, Any] | pd.Series) -> str:
    """The value of a row with its interval, or with how many documents there must be for one."""
    found = bounded(Interval(row["value"], row["ci_low"], row["ci_high"]))
    return f"{found} ({NEEDED})" if _too_few(row) else found


def _bounds(row: Mapping[Hashable, Any]) -> str:
    """Its interval, or how many documents there must be for one; empty where it has none with any number of them."""
    if pd.isna(row["ci_low"]):
        return NEEDED if _too_few(row) else ""
    return f"{number(row['ci_low'])} to {number(row['ci_high'])}"


def _too_few(row: Mapping[Any, Any] | pd.Series) -> bool:
    return pd.isna(row["ci_low"]) and row["n_documents"] < MIN_DOCUMENTS_FOR_CI
