"""Sweeps that add documents only for ablations whose decision is open: told from the dense model, or equal to it within a margin.

A group-sequential design: decisions are taken at a few planned looks, with a test at rate / (looks * ablations) at each of
them. By Bonferroni's inequality any wrong decision, at any look and on any ablation, has at most probability `rate`, whatever
the dependence among looks and ablations; Pocock (1977) and Jennison and Turnbull (1984, repeated confidence intervals) gain a
little where that dependence is known. An ablation can be decided wrongly in one way only: told when it has no effect, or
equal when its effect is beyond the margin, so that the two tests (a t-test, and two one-sided ones: Schuirmann, 1987) share
the rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from adapters.ablation import Ablation
from adapters.errors import StrataError
from analysis.display.format import as_csv
from analysis.engine.plan import plan
from analysis.runs.folder import Folder
from analysis.runs.sweep_run import Progress, SweepStudy
from analysis.runs.tables import KEY, key, tidy, with_original
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, Array

RATE = 0.05  # of any wrong decision in a whole study
COLUMNS = [*KEY, "decision", "value", "low", "high", "n_documents"]


def looks(documents: int) -> list[int]:
    """Numbers of documents at which decisions are taken: twice as many each time, `documents` at last."""
    found = [MIN_DOCUMENTS_FOR_CI]
    while found[-1] < documents:
        found.append(min(2 * found[-1], documents))
    return found


def bounds(differences: Array, tokens: Array, level: float) -> tuple[Array, Array, Array]:
    """Means per token of `differences` (ablations, D), and their 1 - level intervals: t, variance of a ratio by linearisation."""
    n = len(tokens)
    means = differences.sum(-1) / tokens.sum()
    errors = (differences - means[:, None] * tokens).std(-1, ddof=1) / n**0.5 / tokens.mean()
    half = stats.t.isf(level / 2, n - 1) * errors
    return means, means - half, means + half


def decide(differences: Array, tokens: Array, equivalence_margin: float, level: float) -> list[str]:
    """`significant`, `equal` or `open` for each row of `differences` (ablations, D), with an error of at most `level` each."""
    _, low, high = bounds(differences, tokens, level)
    _, inner, outer = bounds(differences, tokens, 2 * level)  # one-sided tests
    significant, equal = (low > 0) | (high < 0), (inner > -equivalence_margin) & (outer < equivalence_margin)
    return np.select([significant, equal], ["significant", "equal"], "open").tolist()


@dataclass(frozen=True)
class Outcome:
    """What was decided, after how many documents, and what that saved."""

    table: pd.DataFrame  # COLUMNS, one row an ablation: bounds hold for all ablations and looks at once
    equivalence_margin: float
    work: float  # share of the operations that all documents for all ablations would have taken

    @property
    def unresolved(self) -> list[str]:
        """The ablations whose decision is open."""
        rows = self.table[self.table["decision"] == "open"].to_dict("records")
        numbers = [next((f".{row[name]}" for name in ("head", "expert") if not pd.isna(row[name])), "") for row in rows]
        edits = [" (mean)" * row["ablation"].endswith("(mean)") for row in rows]
        return [f"{row['kind']} {row['block']}{number}{edit}" for row, number, edit in zip(rows, numbers, edits, strict=True)]

    @property
    def sentence(self) -> str:
        counts = self.table["decision"].value_counts()
        significant, equal = int(counts.get("significant", 0)), int(counts.get("equal", 0))
        equals = f"{equal} equal it within {self.equivalence_margin:g} nats per token"
        found = f"Of {len(self.table)} ablations, {significant} differ significantly from the unpruned model, {equals}"
        left = f"unresolved: {', '.join(self.unresolved)}" if self.unresolved else "none is unresolved"
        saved = f"{100 * (1 - self.work):.0f} % of the work of all documents for all ablations was saved"
        return f"{found}, {left} (errors with probability {RATE:g} at most, over all ablations and looks); {saved}."


def until_resolved(study: SweepStudy, equivalence_margin: float, folder: Path, progress: Progress = lambda n: None) -> Outcome:
    """Sweeps the study's text at the planned `looks`, each time only what is open; the run is kept in `folder`.

    Decisions are also written as decisions.csv. The folder is for one margin and one number of documents: looks that were not
    planned would not hold the rate of errors. `progress` counts documents. Raises StrataError as `opened`.
    """
    with (owner := opened(study, equivalence_margin, folder)).writing({}):
        found = _until_resolved(study, equivalence_margin, folder, progress)
        owner.write_text("decisions.csv", as_csv(found.table))
    return found


def opened(study: SweepStudy, equivalence_margin: float, folder: Path) -> Folder:
    """Raises StrataError when it is for others, the margin is not above zero, or the text has too few documents for a decision."""
    documents = study.text.documents
    if equivalence_margin <= 0:
        raise StrataError(
            f"a margin of {equivalence_margin:g} is given: what is as good as no effect must be above zero, for example 0.01 nats per token"
        )
    if documents < MIN_DOCUMENTS_FOR_CI:
        needed = MIN_DOCUMENTS_FOR_CI * study.text.window
        raise StrataError(
            f"{documents} documents are too few to decide: at least {MIN_DOCUMENTS_FOR_CI} are needed, that is {needed} tokens or more"
        )
    asked = {"ablations": [a.to_json() for a in study.plan.ablations], "margin": equivalence_margin, "documents": documents}
    return Folder(folder, study.identity | asked, made="run")


def _until_resolved(study: SweepStudy, equivalence_margin: float, folder: Path, progress: Progress) -> Outcome:
    documents, ablations = study.text.documents, study.plan.ablations[1:]
    ends, windows = looks(documents), study.text.windows(study.model)
    level = RATE / (len(ends) * len(ablations))
    differences, tokens = {a: np.empty(0) for a in ablations}, np.empty(0)
    open_: Sequence[Ablation] = ablations
    rows, work = {}, 0.0
    for start, end in zip([0, *ends], ends, strict=False):
        part = replace(study, plan=plan(study.model.spec, open_))
        sums = part.scores_of(folder / "run", windows[start:end])
        progress(end - start)
        tokens = np.append(tokens, sums["tokens"])
        work += (end - start) * part.plan.flops_per_token
        for a, nll in zip(open_, sums["nll"][1:], strict=True):
            differences[a] = np.append(differences[a], nll - sums["nll"][0])
        values = np.stack([differences[a] for a in open_])
        decisions = decide(values, tokens, equivalence_margin, level)
        for a, decision, *bound in zip(open_, decisions, *bounds(values, tokens, level), strict=True):
            rows[a] = (*key(study.model.spec, a), decision, *bound, end)
        open_ = [a for a, decision in zip(open_, decisions, strict=True) if decision == "open"]
        if not open_:
            break
    table = with_original(tidy([rows[a] for a in ablations], COLUMNS), study.model.spec)
    return Outcome(table, equivalence_margin, work / (documents * study.plan.flops_per_token))
