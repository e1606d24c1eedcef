"""What taking out every block, mixer, ffn, head or expert costs, asked in one way, so that all studies share what is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from adapters.base import BlockModel
from analysis.data.batches import Text
from analysis.engine.ablations import single_ablations
from analysis.engine.plan import Plan
from analysis.runs.settings import ProgressCallback, RunConfig, no_progress, progress_fraction, run_folder
from analysis.runs.sweep_run import SweepStudy


@dataclass(frozen=True)
class SingleRemovals:
    """Single ablations of several kinds on the same text; the run lies in `out`."""

    model: BlockModel
    kinds: tuple[str, ...]
    text: Text
    out: Path

    @classmethod
    def sized(cls, model: BlockModel, kinds: Sequence[str], config: RunConfig) -> SingleRemovals:
        """On as many documents as the setting holds. A model whose context is shorter than the budget's window gets a shorter one."""
        config = config.within(model)
        found = cls(model, tuple(kinds), config.text(), config.out)
        documents = config.size(model, found.plan, found.planned)
        return replace(found, text=found.text.at_most(documents, model))

    @property
    def study(self) -> SweepStudy:
        """With the divergence, which some ask for, so that no block is swept again for it; heads and experts, which are many, without."""
        return SweepStudy.of(
            self.model, single_ablations(self.model.spec, self.kinds), self.text, kl=not {"heads", "experts"} & {*self.kinds}
        )

    @property
    def plan(self) -> Plan:
        return self.study.plan

    @property
    def folder(self) -> Path:
        return run_folder(self.out, self.study.identity)

    @property
    def planned(self) -> int:
        """On how many documents the same was asked before."""
        return self.study.planned(self.folder)

    def scores(self, progress: ProgressCallback = no_progress, what: str = "sweep") -> dict[str, np.ndarray]:
        """The sums per document, dense model first and then kind by kind, as `SweepStudy.scores`."""
        return self.study.scores(self.folder, progress_fraction(progress, what, self.study.steps * self.text.documents))

    def run(self, progress: ProgressCallback = no_progress, what: str = "sweep") -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
        """The tidy table in the same order, and the sums."""
        table = self.study.run(self.folder, progress_fraction(progress, what, self.study.steps * self.text.documents))
        return table, self.study.scores(self.folder)
