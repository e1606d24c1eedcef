"""Effects: what taking out every block, mixer or ffn costs, with one run for each kind, so that notebooks share them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from adapters.base import BlockModel
from analysis.data.batches import Text
from analysis.engine.ablations import single_ablations
from analysis.engine.plan import Plan, plan
from analysis.runs.settings import ProgressCallback, RunConfig, no_progress, progress_fraction, run_folder
from analysis.runs.sweep_run import SweepStudy


@dataclass(frozen=True)
class SingleRemovals:
    """Single ablations of several kinds on the same text; the runs lie in `out`."""

    model: BlockModel
    kinds: tuple[str, ...]
    text: Text
    out: Path

    @classmethod
    def sized(cls, model: BlockModel, kinds: Sequence[str], config: RunConfig) -> SingleRemovals:
        """On as many documents as the setting holds. A model whose context is shorter than the budget's window gets a shorter one."""
        config = config.within(model)
        found = cls(model, tuple(kinds), config.text(), config.out)
        documents = config.size(model, found.plan, max(study.open(folder).planned for study, folder in found.studies))
        return replace(found, text=found.text.at_most(documents, model))

    @property
    def plan(self) -> Plan:
        """Of all kinds together."""
        return plan(self.model.spec, single_ablations(self.model.spec, self.kinds))

    @property
    def studies(self) -> list[tuple[SweepStudy, Path]]:
        """Each kind's, and its folder."""
        studies = [SweepStudy.of(self.model, single_ablations(self.model.spec, [kind]), self.text) for kind in self.kinds]
        return [(study, run_folder(self.out, kind, study.identity)) for kind, study in zip(self.kinds, studies, strict=True)]

    def run(self, progress: ProgressCallback = no_progress) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
        """The tidy table, dense model first and then kind by kind, and the sums per document in the same order."""
        studies = self.studies
        tell = progress_fraction(progress, "sweep", sum(study.steps for study, _ in studies) * self.text.documents)
        tables = [study.run(folder, tell) for study, folder in studies]
        found = [study.scores(folder) for study, folder in studies]
        sums = {name: np.concatenate([found[0][name][:1], *(scores[name][1:] for scores in found)]) for name in ("nll", "kl")}
        parts = [table[table["kind"] != "dense"] for table in tables[1:]]
        return pd.concat([tables[0], *parts], ignore_index=True), sums | {name: found[0][name] for name in ("tokens", "bytes")}
