"""Removal: how the loss grows with what is taken out, by order, and what that buys (paper, Figures 2b, 5 and 9, Tables 3 and 4)."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from adapters.base import BlockModel
from adapters.checkpoints.export import Source, pruned
from analysis.engine.cost import speed
from analysis.pruning.results import Pruned
from analysis.pruning.speed import speeds
from analysis.removal.orders import RANDOM, random_order
from analysis.removal.paths import score
from analysis.removal.search import find_paths, sized_paths
from analysis.runs.settings import Setting, share


def removal(model: BlockModel, setting: Setting, source: Source | None = None) -> Pruned:
    """Finds every order that the budget holds on calibration text, and scores its sets on held-out text.

    `source`: the model's files, when the size of pruned ones is asked for.
    """
    setting = setting.within(model)
    budget, progress = setting.budget, setting.progress
    text = setting.text(setting.documents or budget.documents)
    calibration = text.calibration(model)
    rate = speed(model, budget.window)
    found = find_paths(model, calibration, setting, rate)
    paths = found.paths | {f"random {i}": random_order(len(model.spec.blocks), setting.seed + i) for i in range(RANDOM)}
    study, thin, folder = sized_paths(model, paths, text, setting, rate)
    sums = study.scores(folder, share(progress, "removal paths", study.steps * study.text.documents))
    scored = score(model, study.plan.ablations, sums, thin)
    progress("speed", 0)
    result = Pruned(model, study.text, calibration, found.paths, scored, found.seconds, found.searched, pd.DataFrame())
    removed = found.paths["bi"][result.quarter].blocks
    short = pruned(model, removed)
    bought = speeds(
        {"dense": model, f"without {result.quarter} block{'s' * (result.quarter > 1)}": short}, min(budget.window, model.spec.max_len // 2)
    )
    if source:
        bought["file"] = [source.without(out).nbytes for out in (frozenset[int](), removed)]
    progress("speed", 1)
    return replace(result, bought=bought, precision=source.precision if source else "")
