"""Run folders read back without their model: the table, the sums of each document behind it, and a figure."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from adapters.ablation import NONE, Ablation
from adapters.errors import StrataError, unknown
from analysis.runs import files
from analysis.runs.folder import Manifest
from analysis.runs.records import COUNTS, TEXTS, Records
from analysis.runs.run import Run
from analysis.runs.tables import COLUMNS, ORIGINAL, TYPES, WITHOUT_EXPERTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIX = "run it again"
DERIVED = {"delta_nll": "nll"}  # metrics of a table that are differences of records from those of the dense model
NUMBERS = {"value": "float", "n_documents": "int64", "n_tokens": "int64"} | TYPES


@dataclass(frozen=True, repr=False)
class RunResult:
    """What a run folder holds: `table` has one row for each part and metric, with 95 % intervals over `documents`.

    `manifest` says what was measured on what, and with which versions.
    """

    folder: Path
    manifest: dict[str, Any]
    table: pd.DataFrame
    documents: list[str]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r})"

    def per_document(self, metric: str) -> pd.DataFrame:
        """Sums of a metric over the tokens of each document: documents as rows, ablations as columns, by their canonical text.

        `delta_nll` is `nll` less that of the dense model, nats. Means over tokens are the quotient with `tokens`. What was not asked
        of a document is NaN. Raises StrataError on a metric that the run does not hold for each document.
        """
        known = [name for name in self._metrics if name not in (*COUNTS, *TEXTS, "greedy", "nats")]
        known += [name for name, of in DERIVED.items() if of in known]
        if metric not in known:
            if not known:
                raise StrataError(f"{self.folder} holds no metric for each document, as sweeps of text and importance do: read its table")
            raise unknown(f"metric of {self.folder}", metric, known)
        values, there = self._records.of(DERIVED.get(metric, metric), self._ablations, self.documents)
        columns = pd.Index(map(str, self._ablations), name="ablation")
        found = pd.DataFrame(np.where(there, values, np.nan).T, pd.Index(self.documents, name="document"), columns)
        return (found.sub(found[str(NONE)], axis=0) if metric in DERIVED else found).dropna(axis=1, how="all")

    @property
    def tokens(self) -> pd.Series:
        """Over how many tokens each document's sums go."""
        counts, _ = self._records.of("real" if "real" in self._metrics else "tokens", [], self.documents)
        return pd.Series(counts, pd.Index(self.documents, name="document"), name="tokens")

    def plot(self, metric: str | None = None, kinds: Sequence[str] = ()) -> Figure:
        """The metric (the first that fits when none is named) of every part, with 95 % intervals."""
        from analysis.display.overview import overview

        return overview(self.table, metric, kinds)

    @cached_property
    def _ablations(self) -> list[Ablation]:
        """Those of the table, in its order; all of a table without them."""
        known = {str(ablation): ablation for record in self._records.records for ablation in record.ablations}
        if "ablation" not in self.table:
            return list(known.values())
        labels = self.table["ablation"].unique()
        if missing := sum(label not in known for label in labels):
            raise StrataError(f"{self.folder} lacks the scores of {missing} of the {len(labels)} ablations of its table: {FIX}")
        return [known[label] for label in labels]

    @cached_property
    def _metrics(self) -> list[str]:
        return list(dict.fromkeys(name for record in self._records.records for name in record.scores))

    @cached_property
    def _records(self) -> Records:
        """Of which each document of the table has some."""
        found = Run(self.folder, self.manifest["identity"], None).records()
        known = {document for record in found.records for document in record.documents}
        if "task" not in self.manifest["identity"] and (missing := sum(document not in known for document in self.documents)):
            raise StrataError(f"{self.folder} lacks the scores of {missing} of the {len(self.documents)} documents of its table: {FIX}")
        return found


def read_run(folder: str | Path) -> RunResult:
    """A run folder of a sweep, of importance or of a benchmark. Raises StrataError when it is none, not finished or damaged."""
    path = Path(folder).expanduser()
    found = manifest_of(path)
    if found.table is None or not (path / "summary.csv").is_file():
        raise StrataError(f"{path} has no table, for the run was stopped: {FIX}")
    data = (path / "summary.csv").read_bytes()
    if hashlib.sha256(data).hexdigest() != found.table.sha256:
        raise StrataError(f"{path / 'summary.csv'} is not what the run has written: {FIX}")
    return RunResult(path, found.model_dump(by_alias=True, exclude_unset=True), _table(data), found.table.documents)


def manifest_of(folder: Path) -> Manifest:
    """Of a run folder, finished or not. Raises StrataError as `read_run`."""
    if not (folder / "manifest.json").is_file():
        raise StrataError(f"{folder} is no run folder: one has a manifest.json")
    found = files.read_json(folder / "manifest.json", Manifest, FIX)
    Run(folder, found.identity)  # its key, and the version that has written it
    return found


def _table(data: bytes) -> pd.DataFrame:
    """summary.csv as the study made it; spans have other columns, which pandas guesses."""
    columns = data.decode().partition("\n")[0].strip().split(",")
    more = [ORIGINAL] * (columns[-1] == ORIGINAL)
    if columns not in ([*COLUMNS, *more], [*WITHOUT_EXPERTS, *more]):
        return pd.read_csv(io.BytesIO(data))
    types = {name: NUMBERS.get(name, "str") for name in [*COLUMNS, *more]}
    there = {name: types[name] for name in columns}
    empty = {name: [""] for name in NUMBERS if name in there}
    return pd.read_csv(io.BytesIO(data), dtype=there, keep_default_na=False, na_values=empty).reindex(columns=[*types]).astype(types)


def read_runs(folder: str | Path) -> pd.DataFrame:
    """The tables of all runs in a folder and below as one, with a column `run` that says which; those of spans have other columns.

    Runs that were stopped before their table are left out. Raises StrataError when there is none, and on a damaged one.
    """
    path = Path(folder).expanduser()
    runs = [read_run(file.parent) for file in sorted(path.rglob("manifest.json")) if (file.parent / "summary.csv").is_file()]
    tables = [run.table.assign(run=str(run.folder.relative_to(path))) for run in runs if list(run.table)[: len(COLUMNS)] == COLUMNS]
    if not tables:
        raise StrataError(f"there is no finished run in {path}: give a folder that holds run folders")
    return pd.concat(tables, ignore_index=True)
