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
    """What a run folder holds. `manifest` says what was measured on what, and with which versions."""

    folder: Path
    manifest: dict[str, Any]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r})"

    @cached_property
    def table(self) -> pd.DataFrame:
        """summary.csv: one row for each part and metric, with 95 % intervals. Raises StrataError when it is not what was written."""
        path, noted = self.folder / "summary.csv", self.manifest.get("table")
        if not path.is_file() or not noted:
            raise StrataError(f"{self.folder} has no table: the run was stopped, {FIX}")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != noted["sha256"]:
            raise StrataError(f"{path} is not what the run has written: {FIX}")
        table = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False)
        if list(table) != COLUMNS:
            return pd.read_csv(io.BytesIO(data))
        return table.replace({column: {"": None} for column in NUMBERS}).astype(NUMBERS)

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
        from analysis.display import plots

        return plots.overview(self.table, metric, kinds)

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
        noted, found = self.manifest.get("table"), Run(self.folder, self.manifest["identity"], self._rows).scores()
        if missing := [document for document in (noted or {}).get("documents", ()) if document not in found]:
            raise StrataError(f"{self.folder} lacks the scores of {len(missing)} documents of its table: {FIX}")
        return {document: found[document] for document in noted["documents"]} if noted else found


def read_run(folder: str | Path) -> RunResult:
    """A run folder of a sweep, of importance or of a benchmark. Raises StrataError when it is none, or damaged."""
    path = Path(folder).expanduser()
    if not (path / "manifest.json").is_file():
        raise StrataError(f"{path} is no run folder: one has a manifest.json")
    found = files.read_json(path / "manifest.json", Manifest, FIX)
    Run(path, found.identity)  # its key, and the version that has written it
    return RunResult(path, found.model_dump(by_alias=True, exclude_unset=True))


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
