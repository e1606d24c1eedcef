"""Ranking: do importance metrics order the blocks as the loss does, and how far can an order be trusted (paper, Figure 8)?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from adapters.base import BlockModel
from adapters.errors import StrataError
from adapters.specs import ModelSpec
from analysis.data.batches import Text
from analysis.depth import study as depth
from analysis.depth.study import SWEEP
from analysis.engine.ablations import block_kinds
from analysis.importance.results import EFFECTS, Ranking
from analysis.importance.straight import straight
from analysis.metrics.metrics import METRICS
from analysis.metrics.study import TAYLOR, ImportanceStudy
from analysis.runs.budgets import Takes
from analysis.runs.settings import RunConfig, progress_fraction, run_folder
from analysis.runs.single_removals import SingleRemovals
from analysis.stats.intervals import Array
from analysis.stats.rank_agreement import Scores

SAMPLES = 3  # of calibration text
PARTS = ("texts:XSum", "texts:MultiLexSum")  # news and law: what `texts` is compared with where no other corpora are named


def takes(spec: ModelSpec) -> Takes:
    """The sweep of depth, and every metric of several texts. Raises StrataError on a model of one block."""
    _check(spec)
    texts = 2 + len(PARTS) + SAMPLES  # with first tokens and without
    gradients, spans = 3, 4  # in passes
    return Takes({SWEEP: depth.takes(spec).passes[SWEEP], "metrics": (texts + gradients + spans) * spec.flops_per_token}, 4)


def _check(spec: ModelSpec) -> None:
    if len(spec.blocks) < 2:
        raise StrataError(f"{spec.name} has one block, and an order needs two: run the notebook on depth alone")


def ranking(model: BlockModel, config: RunConfig, others: Sequence[str] = ()) -> Ranking:
    """Measures every metric, added ones too, on calibration text beside the sweep of `depth`, which runs once for both.

    `others`: corpora whose removal orders are compared with that of the setting's; news and law where they are not named and
    that is `texts`. At most a batch of streams is held. Raises StrataError on a model of one block.
    """
    _check(model.spec)
    removed = SingleRemovals.sized(model, block_kinds(model.spec), config)
    text = removed.text
    calibration = text.calibration(model)
    causal, sums = removed.run(config.progress)

    def measured(
        text: Text, what: str, *metrics: str, kinds: tuple[str, ...] = ("blocks",), first_token: bool = True
    ) -> tuple[pd.DataFrame, dict[str, Array]]:
        study = ImportanceStudy(model, text, metrics, kinds, first_token)
        place = run_folder(config.out, study.identity)
        return study.run(place, progress_fraction(config.progress, what, text.documents)), study.scores(place)

    every = {**METRICS, "taylor": TAYLOR}
    titles = {name: metric.title for name, metric in every.items()} | EFFECTS
    if len(set(titles.values())) < len(titles):
        raise StrataError(f"two scores have one title ({', '.join(titles.values())}): give metrics other titles")
    stream = [name for name, metric in METRICS.items() if not metric.positional]
    table, metrics = measured(calibration, "metrics", *every, kinds=block_kinds(model.spec))
    _, rest = measured(calibration, "without first tokens", *stream, first_token=False)
    samples = [measured(replace(calibration, seed=config.seed + i), f"sample {i + 1}", *stream)[1] for i in range(1, SAMPLES)]
    corpora = {}
    for name in others or (PARTS if config.corpus == "texts" else ()):
        elsewhere = replace(calibration, corpus=name).at_most(calibration.documents, model)
        corpora[name] = measured(elsewhere, name, *stream)[1]
    spans = straight(model, calibration, text, config)

    n = len(model.spec.blocks)
    effects = {"delta_nll": sums["nll"] - sums["nll"][0], "kl": sums["kl"]}
    scores = {
        kind: {m: Scores(metrics[m][k * n : (k + 1) * n], metrics["real"]) for m in every}
        | {e: Scores(values[1 + k * n : 1 + (k + 1) * n], sums["tokens"]) for e, values in effects.items()}
        for k, kind in enumerate(block_kinds(model.spec))
    }

    def plain(found: dict[str, Array]) -> dict[str, Scores]:
        return {m: Scores(found[m], found["real"]) for m in stream}

    return Ranking(
        model,
        text,
        calibration,
        pd.concat([causal, table]),
        titles,
        scores,
        without_first=plain(rest),
        samples=[plain(found) for found in samples],
        corpora={name: plain(found) for name, found in corpora.items()},
        straight=spans,
    )
