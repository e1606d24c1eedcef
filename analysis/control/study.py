"""A sweep of some documents that gradients on more of them make more precise: control variates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from adapters.ablation import Ablation
from adapters.base import BlockModel
from analysis.control import pilot
from analysis.control.covariates import DENSE, SIZED, first_order, point, sizes
from analysis.control.outcome import Outcome
from analysis.control.pilot import Kind
from analysis.data.batches import Batch, Text
from analysis.data.documents import Window
from analysis.engine.plan import Plan, plan
from analysis.metrics.taylor import TARGETS, NoGradientsError
from analysis.runs.records import Work
from analysis.runs.run import Run
from analysis.runs.scoring import COUNTED, Question, Scoring, map_documents, on_windows
from analysis.runs.settings import ProgressCallback, no_progress, progress_fraction
from analysis.runs.single_removals import SingleRemovals
from analysis.runs.sweep_run import FIRST_ORDER, SIZE, Progress, SweepStudy, families, sweep_values, table_of, tested
from analysis.runs.tables import write_table
from analysis.stats.control_variates import Controlled, controlled
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI, Array, Interval, discoveries_by_family

AT_ONCE = 8  # documents whose gradients are one record
COVARIATES = {FIRST_ORDER: first_order, SIZE: sizes}


@dataclass(frozen=True)
class ControlledSweep:
    """`sweep`, whose documents come first among those that gradients are taken on; a pilot on others decides for which kinds of parts."""

    sweep: SweepStudy

    @property
    def model(self) -> BlockModel:
        return self.sweep.model

    @property
    def plan(self) -> Plan:
        return self.sweep.plan

    @property
    def text(self) -> Text:
        return self.sweep.text

    @property
    def identity(self) -> dict[str, Any]:
        return self.sweep.identity

    @property
    def documents(self) -> list[str]:
        """That are swept."""
        return self.sweep.documents

    @cached_property
    def rows(self) -> list[int]:
        """Of the plan, those with a first-order effect: of parts that leave nothing behind."""
        return [i for i, a in enumerate(self.plan.ablations) if a and a.edit == "zero" and a.parts.keys() <= TARGETS.keys()]

    @cached_property
    def windows(self) -> list[Window]:
        """First those that are swept, then the pilot's, then all that gradients may be taken on."""
        swept = len(self.sweep.documents)
        most = swept * (pilot.MOST if swept >= pilot.FEW else pilot.MOST_OF_FEW) + pilot.DOCUMENTS
        return replace(self.text.at_most(most, self.model), only=None).windows(self.model)

    @cached_property
    def trial(self) -> SweepStudy:
        """The sweep of the pilot."""
        parts = pilot.sampled(self.model.spec, [self.plan.ablations[i] for i in self.rows])
        return replace(self.sweep, plan=plan(self.model.spec, parts), kl=False)

    @property
    def total(self) -> int:
        """What `progress` counts up to."""
        return self.sweep.steps * len(self.sweep.documents) + (0 if self._why_plain() else self.trial.steps * pilot.DOCUMENTS)

    @property
    def announced(self) -> dict[str, Any]:
        """What is known before it runs: documents that are swept, and on how many gradients are taken if these leave a half, or a tenth,
        of the variance; `price` and `pilot` of a sweep's seconds on one document, and on all."""
        swept, why, price = len(self.sweep.documents), self._why_plain(), pilot.price(self.plan, bool(self.sized))
        if why:
            return {"swept": swept, "gradients": [swept, swept], "price": price, "pilot": 0.0, "plain": why}
        most, share = len(self.windows) - pilot.DOCUMENTS, self.trial.plan.flops_per_token / self.plan.flops_per_token
        gradients = [min(pilot.enough(left, price, swept), most) for left in (0.5, 0.1)]
        return {"swept": swept, "gradients": gradients, "price": price, "pilot": share * pilot.DOCUMENTS / swept, "plain": ""}

    def open(self, folder: Path) -> Run:
        return self.sweep.open(folder)

    def run(self, folder: Path, progress: Progress = lambda n: None) -> pd.DataFrame:
        """As SweepStudy.run; what was decided is noted in the manifest."""
        return self.outcome(folder, progress).table

    def outcome(self, folder: Path, progress: Progress = lambda n: None) -> Outcome:
        """`delta_nll` with its test from the swept documents and from gradients on more, where that is narrower, and what it is from the
        swept documents alone (`delta_nll_plain`); all else as in `sweep_table`. Beside it `variance_left` and `largest_residual`
        (see `analysis.stats.control_variates.Controlled`)."""
        swept, why = len(self.sweep.documents), self._why_plain()
        kinds, documents = ({}, swept) if why else self._judged(folder, progress)
        why = why or self._why_all_plain(kinds)
        sized = [] if why else [kind for kind in self.sized if not kinds[kind].plain]
        sums = self.sweep.scores(folder, progress)
        values, estimates = sweep_values(self.plan, sums), np.full(len(self.plan.ablations), np.nan)
        if not why:
            estimates = self._corrected(values, sums, self._covariates(folder, documents, sized), kinds, sized)
        table = table_of(self.plan, values, sums["tokens"], self.text)
        found = Outcome(table, sums, estimates, kinds, swept, swept if why else documents, point(self.model), why, sized)
        run = self.sweep.open(folder)
        if (manifest := run.manifest()) and (manifest.model_extra or {}).get("control") != (noted := found.to_json()):
            run.note({"control": noted})
        return replace(found, table=write_table(run, table, self.sweep.documents, self.model.spec))

    def _why_plain(self) -> str:
        """Before anything is computed; empty where a pilot is to say."""
        swept = len(self.sweep.documents)
        if swept < MIN_DOCUMENTS_FOR_CI:
            return f"{swept} documents are too few for a slope, which takes {MIN_DOCUMENTS_FOR_CI}"
        if not self.rows:
            return "gradients are of blocks, mixers, ffns and heads that leave nothing behind"
        if len(self.windows) < 2 * swept + pilot.DOCUMENTS:
            return f"the corpus holds {len(self.windows)} such documents, and a pilot and gradients take {2 * swept + pilot.DOCUMENTS}"
        return ""

    def _judged(self, folder: Path, progress: Progress) -> tuple[dict[str, Kind], int]:
        """What the pilot says of each kind, and on how many documents gradients are taken."""
        swept = len(self.sweep.documents)
        windows = self.windows[swept : swept + pilot.DOCUMENTS]
        try:
            g = self._covariate(folder, FIRST_ORDER, self.trial.plan.ablations[1:], windows)
        except NoGradientsError:
            return {}, swept
        sums = self.trial.scores_of(folder, windows, progress)
        found = controlled(sums["nll"][1:] - sums["nll"][0], sums["tokens"], g[FIRST_ORDER][:, None])
        kinds = pilot.judged(found, pilot.by_kind(self.model.spec, self.trial.plan.ablations[1:]))
        sizes = {kind: len(rows) for kind, rows in self._groups.items()}
        left = float(np.median(np.repeat([kinds[kind].left for kind in sizes], list(sizes.values()))))
        price = pilot.price(self.plan, bool(self.sized))
        documents = min(pilot.enough(left, price, swept), len(self.windows) - pilot.DOCUMENTS)
        if pilot.gain(left, price, swept, documents) < pilot.WORTH:
            return {kind: found._replace(plain="take gradients that cost what they save") for kind, found in kinds.items()}, swept
        return kinds, documents

    @staticmethod
    def _why_all_plain(kinds: Mapping[str, Kind]) -> str:
        if not kinds:
            return "no gradient goes through this architecture"
        return "" if any(not kind.plain for kind in kinds.values()) else "; ".join(f"{kind} {found.plain}" for kind, found in kinds.items())

    @cached_property
    def sized(self) -> list[str]:
        """Kinds of parts whose size is a second covariate: a slope more takes more documents."""
        enough = len(self.sweep.documents) >= pilot.FEW and point(self.model) == DENSE
        return [kind for kind in SIZED if kind in self._groups] if enough else []

    def _rows_of(self, kinds: Sequence[str]) -> list[int]:
        """Of the plan, in its order."""
        return sorted(row for kind in kinds for row in self._groups[kind])

    @cached_property
    def _groups(self) -> dict[str, list[int]]:
        """Rows of the plan by the kind of their parts."""
        groups = pilot.by_kind(self.model.spec, [self.plan.ablations[i] for i in self.rows])
        return {kind: [self.rows[i] for i in found] for kind, found in groups.items()}

    def _covariates(self, folder: Path, documents: int, sized: Sequence[str]) -> dict[str, Array]:
        """Of `documents` documents, the swept ones first: `tokens` (N,), and by covariate (ablations, N), NaN where it is not taken."""
        swept = len(self.sweep.documents)
        windows = [*self.windows[:swept], *self.windows[swept + pilot.DOCUMENTS :]][:documents]
        found: dict[str, Array] = {}
        for covariate, rows in ((FIRST_ORDER, self.rows), (SIZE, self._rows_of(sized))):
            whole = np.full((len(self.plan.ablations), len(windows)), np.nan)
            if rows:
                answered = self._covariate(folder, covariate, [self.plan.ablations[i] for i in rows], windows)
                whole[rows], found["tokens"] = answered[covariate], answered["tokens"]
            found[covariate] = whole
        return found

    def _covariate(self, folder: Path, covariate: str, of: Sequence[Ablation], windows: Sequence[Window]) -> dict[str, Array]:
        scoring = self._scoring(covariate, of, windows)
        return scoring.asked.answer(map_documents(self.sweep.open(folder), scoring), COUNTED)

    def _scoring(self, covariate: str, of: Sequence[Ablation], windows: Sequence[Window]) -> Scoring:
        def score(batch: Batch, work: Work) -> dict[str, np.ndarray]:
            return {covariate: COVARIATES[covariate](self.model, work.ablations, batch)}

        asked = Question.of(of, [covariate], windows)
        return on_windows(asked, {"spec": asdict(self.model.spec)}, windows, self.model, lambda work: AT_ONCE, score)

    def _corrected(
        self,
        values: list[dict[str, Interval]],
        sums: Mapping[str, Array],
        g: Mapping[str, Array],
        kinds: Mapping[str, Kind],
        sized: Sequence[str],
    ) -> Array:
        """Puts estimates with covariates in the place of plain ones, which stay beside them. Their values (ablations,), else NaN."""
        found: dict[int, Controlled] = {}
        two = self._rows_of(sized)
        for covariates, which in ([FIRST_ORDER], sorted({*self.rows} - {*two})), ([FIRST_ORDER, SIZE], two):
            each = controlled(sums["nll"][which] - sums["nll"][0], g["tokens"], np.stack([g[name][which] for name in covariates], 1))
            found |= {row: Controlled(*(of[i] for of in each)) for i, row in enumerate(which)}
        rows = self._rows_of([kind for kind in self._groups if not kinds[kind].plain])
        p = np.array([float(each["p_value"].value) if "p_value" in each else 1.0 for each in values])
        estimates = np.full(len(values), np.nan)
        for row in rows:
            p[row], estimates[row] = found[row].p_value, found[row].value
        test = discoveries_by_family(families(self.plan), p)
        for row in rows:
            mine, plain = found[row], values[row]
            own = {"delta_nll": Interval(*(float(end) for end in mine[:3])), "delta_nll_plain": plain["delta_nll"]}
            beside = {"variance_left": mine.left, "largest_residual": mine.residual}
            values[row] = plain | own | tested(test, row) | {name: Interval(float(value), None, None) for name, value in beside.items()}
        return estimates


def effects_of(singles: SingleRemovals, progress: ProgressCallback = no_progress, what: str = "sweep") -> Outcome:
    """What taking out single parts costs, by a sweep and by gradients on more documents."""
    study = ControlledSweep(singles.study)
    return study.outcome(singles.folder, progress_fraction(progress, what, study.total))
