"""The models of the table: as they are, quantised, without blocks, and both in either order; each made, loaded and scored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from adapters.ablation import NONE, Ablation
from adapters.base import BlockModel
from adapters.checkpoints.export import Source, remove_blocks
from adapters.registry import load
from analysis.checkpoints.prune import find_path
from analysis.data.batches import Batch, Text, batches
from analysis.data.hashes import content_hash
from analysis.methods.accuracy import METRIC
from analysis.paper.shortgpt import paper_n_removed
from analysis.quantization.gptq import SCHEMES, Recipe, half_bytes
from analysis.removal.orders import ORDERS
from analysis.runs.settings import ProgressCallback, RunConfig, run_folder
from analysis.runs.sweep_run import SweepStudy
from analysis.stats.intervals import Array, Interval
from analysis.tasks import TaskSet
from analysis.tasks.benchmark import benchmarks


class Variant(NamedTuple):
    """One model of the table."""

    scheme: str  # name in SCHEMES, or dense
    order: str  # when blocks go: after quantisation, before it, or never (empty)
    parameters: int
    file: int  # bytes of its tensors
    half: int  # the same with two bytes for each float
    nll: Array  # (documents,)
    tasks: dict[str, Interval]  # accuracy by task, or its loss where there are no options


@dataclass(frozen=True)
class Variants:
    """Makes and scores all variants of `model`, one in memory at a time besides it; checkpoints are kept beside the runs."""

    model: BlockModel
    source: Source
    text: Text  # held-out
    calibration: Text
    removed: tuple[int, ...]  # blocks
    config: RunConfig
    tasks: Sequence[TaskSet]

    def run(self) -> tuple[list[Variant], tuple[int, ...] | None]:
        """All of them, and the blocks that Block Influence takes out of the GPTQ model; None: `model` was quantised before."""
        found = self.measured("dense", self.model, self.source)
        if self.model.spec.quantised:
            return found, None
        found += self.measured("int8", *self.made(self.recipe("int8")))
        gptq, files = self.made(self.recipe("gptq"))
        found += self.measured("gptq", gptq, files)
        chosen = lowest(gptq, self.calibration, self.config.progress)
        del gptq
        return [*found, *self.measured("gptq", *self.made(self.recipe("gptq", self.removed)), order="before")], chosen

    @cached_property
    def read(self) -> tuple[Batch, ...]:
        return tuple(batches(self.calibration.windows(self.model), self.model))

    def recipe(self, scheme: str, removed: tuple[int, ...] = ()) -> Recipe:
        return Recipe(self.model, self.source, scheme, removed, self.read, self.text.seed)

    def made(self, recipe: Recipe) -> tuple[BlockModel, Source]:
        """A quantised model and its files; made unless they are there."""
        self.config.progress(f"quantising, {SCHEMES[recipe.scheme].title}", 0)
        folder = str(recipe.make(self.config.out))
        model = load(folder, device=str(self.model.device), dtype=self.model.precision)
        return model, Source.of(folder, model.spec)

    def study(self, model: BlockModel) -> SweepStudy:
        whole = len(model.spec.blocks) == len(self.model.spec.blocks)
        return SweepStudy.of(model, [Ablation(blocks=frozenset(self.removed))] * whole, self.text, kl=False)

    def scores(self, model: BlockModel) -> dict[str, Array]:
        """Sums per document of a model and, unless blocks are out already, of the same without them."""
        study = self.study(model)
        return study.scores(run_folder(self.config.out, study.identity))

    def measured(self, scheme: str, model: BlockModel, source: Source, order: str = "") -> list[Variant]:
        self.config.progress("losses", 0)
        found = []
        for ablation, nll in zip(self.study(model).plan.ablations, self.scores(model)["nll"], strict=True):
            left, store = remove_blocks(model, ablation.blocks), source.without(ablation.blocks)
            scored = self._benchmarks(left, ablation.blocks)
            when = order if ablation == NONE else "after"
            found.append(Variant(scheme, when, left.spec.n_params, store.nbytes, half_bytes(store), nll, scored))
        return found

    def _benchmarks(self, model: BlockModel, removed: Iterable[int]) -> dict[str, Interval]:
        """By what the table shows; `removed` blocks are out of `model` already, which has the dense one's name all the same."""
        config = self.config
        if removed:
            config = replace(config, out=config.out / f"without-{content_hash(sorted(removed))[:8]}")
        shown = [
            (one, f"accuracy (guessing: {one.chance['accuracy']:.2f})", METRIC) if one.has_options else (one, "loss", one.loss)
            for one in benchmarks(model, self.tasks, [], config)
        ]
        return {f"{one.task}, {what}": one.dense(metric) for one, what, metric in shown}


def lowest(model: BlockModel, calibration: Text, tell: ProgressCallback) -> tuple[int, ...]:
    """The quarter of its blocks that Block Influence takes out."""
    return tuple(sorted(find_path(model, calibration, ORDERS["bi"], paper_n_removed(len(model.spec.blocks)), tell)[-1].blocks))
