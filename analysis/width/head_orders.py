"""Orders of removal from importance on calibration text, causal or cheap, and the paths that they give on held-out text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from adapters.ablation import Ablation
from adapters.base import BlockModel
from analysis.control.study import effects_of
from analysis.data.batches import Text
from analysis.engine.ablations import single_ablations
from analysis.engine.cost import cost
from analysis.metrics.study import ImportanceStudy
from analysis.removal import savings
from analysis.removal.paths import RemovalPath, Scored, cheapest_first, score, union
from analysis.runs.settings import RunConfig, progress_fraction, run_folder
from analysis.runs.single_removals import SingleRemovals
from analysis.runs.sweep_run import SweepStudy
from analysis.stats.intervals import Array
from analysis.stats.rank_agreement import Scores

NAMES = {"causal": "rise in loss", "l2": "norm of its output", "bi": "change of direction", "taylor": "Taylor"}


@dataclass(frozen=True)
class Removals:
    """A model, and the setting of a study of it; its budget is that of one sweep."""

    model: BlockModel
    config: RunConfig

    def limited(self, share: float) -> Removals:
        """The same with a share of the time."""
        return replace(self, config=self.config.limited(share))

    def causal(self, kinds: Sequence[str], text: Text) -> dict[str, Scores] | None:
        """Rise in loss without each single part, by kind; None when the budget does not hold these sweeps on `text`.

        Of heads, for which that pays, with gradients on more of it.
        """
        singles = {kind: SingleRemovals(self.model, (kind,), text, self.config.out) for kind in kinds}
        todo = [removals for removals in singles.values() if not removals.planned]
        seconds = sum(cost(self.model, removals.plan, text.documents, text.window).seconds for removals in todo)
        if (most := self.config.budget.seconds) is not None and seconds > most:
            return None
        found = {}
        for kind, removals in singles.items():
            if kind == "heads":
                effects = effects_of(removals, self.config.progress, "order of heads")
                found[kind] = Scores(effects.rises, effects.sums["tokens"])
            else:
                sums = removals.scores(self.config.progress, f"order of {kind}")
                found[kind] = Scores(sums["nll"][1:] - sums["nll"][0], sums["tokens"])
        return found

    def metrics(self, kinds: Sequence[str], names: Sequence[str], text: Text) -> dict[str, dict[str, Scores]]:
        """Importance of every part by cheaper passes, `analysis.metrics.metrics.METRICS` and taylor: by kind, then by name."""
        study = ImportanceStudy(self.model, text, tuple(names), tuple(kinds))
        folder = run_folder(self.config.out, study.identity)
        sums = study.scores(folder, progress_fraction(self.config.progress, f"importance of {', '.join(kinds)}", text.documents))
        ends = np.cumsum([0, *(len(single_ablations(self.model.spec, [kind])) for kind in kinds)])
        return {
            kind: {name: Scores(sums[name][start:end], sums["real"]) for name in names}
            for kind, (start, end) in zip(kinds, pairwise(ends), strict=True)
        }

    def ordered(self, kind: str, scores: Scores) -> list[Ablation]:
        """The parts of a kind, those first that harm least for what they save."""
        parts = single_ablations(self.model.spec, [kind])
        return cheapest_first(parts, scores.means(scores.all), self.shares(parts, "block parameters"))

    def shares(self, parts: Sequence[Ablation], measure: str) -> Array:
        """What each part takes of the whole."""
        return np.array([savings.MEASURES[measure](self.model.spec, savings.saved(self.model, part)) for part in parts])

    def paths(self, what: str, paths: dict[str, RemovalPath], text: Text) -> tuple[Scored, Text]:
        """Losses of all sets of the paths in one sweep; and the text, as much of it as the setting holds."""
        study, folder = self.sized(SweepStudy.of(self.model, union(paths), text, kl=False))
        sums = study.scores(folder, progress_fraction(self.config.progress, what, study.steps * study.text.documents))
        return score(self.model, study.plan.ablations, sums, paths), study.text

    def sized(self, study: SweepStudy) -> tuple[SweepStudy, Path]:
        """The study on as many documents as the setting holds, and its folder."""
        folder = run_folder(self.config.out, study.identity)
        documents = self.config.size(self.model, study.plan, study.planned(folder))
        return replace(study, text=study.text.at_most(documents, self.model)), folder

    def texts(self, documents: int) -> tuple[Text, Text]:
        """Held-out and calibration text that share no document."""
        held_out = self.config.text(documents)
        return held_out, held_out.calibration(self.model)
