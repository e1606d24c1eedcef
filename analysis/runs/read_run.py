"""Run folders read back without their model: the table, the sums of each document behind it, and a figure."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from adapters.ablation import NONE, Ablation
from adapters.errors import StrataError, unknown
from analysis.runs import files
from analysis.runs.folder import Manifest
from analysis.runs.run import Run
from analysis.runs.scoring import COUNTED
from analysis.runs.tables import COLUMNS, TYPES

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

        `delta_nll` is `nll` less that of the dense model, nats. Means over tokens are the quotient with `tokens`. Raises
        StrataError on a metric that the run does not hold for each document.
        """
        labels, known = self._labels, [name for name in self._rows if name not in (*COUNTED, "real", "greedy", "nats")]
        known += [name for name, of in DERIVED.items() if of in known]
        if metric not in known:
            if not known:
                raise StrataError(f"{self.folder} holds no metric for each document, as sweeps of text and importance do: read its table")
            raise unknown(f"metric of {self.folder}", metric, known)
        sums = {document: scores[DERIVED.get(metric, metric)] for document, scores in self._scores.items()}
        found = pd.DataFrame.from_dict(sums, orient="index", columns=pd.Index(labels, name="ablation")).rename_axis("document")
        return found.sub(found[str(NONE)], axis=0) if metric in DERIVED else found

    @property
    def tokens(self) -> pd.Series:
        """Over how many tokens each document's sums go."""
        name = "real" if "real" in self._rows else "tokens"
        return pd.Series({document: int(scores[name]) for document, scores in self._scores.items()}, name="tokens").rename_axis("document")

    def plot(self, metric: str | None = None, kinds: Sequence[str] = ()) -> Figure:
        """The metric (the first that fits when none is named) of every part, with 95 % intervals."""
        from analysis.display.overview import overview

        return overview(self.table, metric, kinds)

    @cached_property
    def _labels(self) -> list[str]:
        """Ablations in the order of the records."""
        identity = self.manifest["identity"]
        if "ablations" in identity:
            try:
                return [str(Ablation.from_json(data)) for data in identity["ablations"]]
            except (TypeError, ValueError, AttributeError):
                raise StrataError(f"{self.folder / 'manifest.json'} names ablations that are none: {FIX}") from None
        return list(self.table["ablation"].unique()) if "metrics" in identity else []

    @cached_property
    def _rows(self) -> dict[str, int | None]:
        """How many numbers the records hold of each metric, as their study has said it."""
        identity, n = self.manifest["identity"], len(self._labels)
        if "task" in identity:
            return dict.fromkeys(("nats", "greedy"), n)
        if "metrics" in identity:
            names = [metric if isinstance(metric, str) else str(metric["name"]) for metric in identity["metrics"]]
            return {**dict.fromkeys(names, n), "real": None, **COUNTED}
        return {"nll": n, **({"kl": n} if identity.get("kl") else {}), **COUNTED} if "ablations" in identity else {}

    @cached_property
    def _scores(self) -> dict[str, dict[str, Any]]:
        """By document, of those of the table and in their order."""
        found = Run(self.folder, self.manifest["identity"], self._rows).scores()
        if missing := sum(document not in found for document in self.documents):
            raise StrataError(f"{self.folder} lacks the scores of {missing} of the {len(self.documents)} documents of its table: {FIX}")
        return {document: found[document] for document in self.documents}


def read_run(folder: str | Path) -> RunResult:
    """A run folder of a sweep, of importance or of a benchmark. Raises StrataError when it is none, not finished or damaged."""
    path = Path(folder).expanduser()
    if not (path / "manifest.json").is_file():
        raise StrataError(f"{path} is no run folder: one has a manifest.json")
    found = files.read_json(path / "manifest.json", Manifest, FIX)
    Run(path, found.identity)  # its key, and the version that has written it
    if found.table is None or not (path / "summary.csv").is_file():
        raise StrataError(f"{path} has no table, for the run was stopped: {FIX}")
    data = (path / "summary.csv").read_bytes()
    if hashlib.sha256(data).hexdigest() != found.table.sha256:
        raise StrataError(f"{path / 'summary.csv'} is not what the run has written: {FIX}")
    return RunResult(path, found.model_dump(by_alias=True, exclude_unset=True), _table(data), found.table.documents)


def _table(data: bytes) -> pd.DataFrame:
    """summary.csv as the study made it; spans have other columns, which pandas guesses."""
    columns = data.decode().partition("\n")[0].strip().split(",")
    if columns != COLUMNS:
        return pd.read_csv(io.BytesIO(data))
    types = dict.fromkeys(COLUMNS, "str") | NUMBERS
    return pd.read_csv(io.BytesIO(data), dtype=types, keep_default_na=False, na_values=dict.fromkeys(NUMBERS, [""]))


def read_runs(folder: str | Path) -> pd.DataFrame:
    """The tables of all runs in a folder and below as one, with a column `run` that says which; those of spans have other columns.

    Runs that were stopped before their table are left out. Raises StrataError when there is none, and on a damaged one.
    """
    path = Path(folder).expanduser()
    runs = [read_run(file.parent) for file in sorted(path.rglob("manifest.json")) if (file.parent / "summary.csv").is_file()]
    tables = [run.table.assign(run=str(run.folder.relative_to(path))) for run in runs if list(run.table) == COLUMNS]
    if not tables:
        raise StrataError(f"there is no finished run in {path}: give a folder that holds run folders")
    return pd.concat(tables, ignore_index=True)
