"""Removal: how the loss grows with what is taken out, by order, and what that buys (paper, Figures 2b, 5 and 9, Tables 3 and 4)."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from adapters.base import BlockModel
from adapters.checkpoints.export import Source, remove_blocks
from adapters.specs import ModelSpec
from analysis.display.format import count
from analysis.engine.cost import speed
from analysis.pruning.results import RemovalResult
from analysis.pruning.speed import speeds
from analysis.removal.orders import RANDOM, random_order
from analysis.removal.paths import score
from analysis.removal.search import find_paths, sized_paths
from analysis.runs.budgets import Takes
from analysis.runs.settings import RunConfig, progress_fraction


def takes(spec: ModelSpec) -> Takes:
    """Every order, and sets of each; those that are found by trying blocks read few documents."""
    return Takes({"removal orders and their sets": 8 * len(spec.blocks) * spec.flops_per_token}, 5)


def removal(model: BlockModel, config: RunConfig, source: Source | None = None) -> RemovalResult:
    """Finds every order that the budget holds on calibration text, and scores its sets on held-out text.

    `source`: the model's files, when the size of pruned ones is asked for.
    """
    config = config.within(model)
    budget, progress = config.budget, config.progress
    text = config.text(config.documents or budget.documents)
    calibration = text.calibration(model)
    rate = speed(model, budget.window)
    found = find_paths(model, calibration, config, rate)
    paths = found.paths | {f"random {i}": random_order(len(model.spec.blocks), config.seed + i) for i in range(RANDOM)}
    study, thin, folder = sized_paths(model, paths, text, config, rate)
    sums = study.scores(folder, progress_fraction(progress, "removal paths", study.steps * study.text.documents))
    scored = score(model, study.plan.ablations, sums, thin)
    progress("speed", 0)
    result = RemovalResult(model, study.text, calibration, found.paths, scored, found.seconds, found.searched, pd.DataFrame())
    removed = found.paths["bi"][result.paper_n_removed].blocks
    short = remove_blocks(model, removed)
    bought = speeds(
        {"unpruned": model, f"without {count(result.paper_n_removed, 'block')}": short},
        min(budget.window, model.spec.max_len // 2),
    )
    if source:
        bought["file"] = [source.without(out).nbytes for out in (frozenset[int](), removed)]
    progress("speed", 1)
    return replace(result, bought=bought, precision=source.precision if source else "")
