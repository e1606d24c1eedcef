"""Which orders a budget holds, and how many of their sets can be scored within it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from adapters.ablation import NONE, Ablation
from adapters.base import BlockModel
from adapters.errors import StrataError
from adapters.plugins import noted
from analysis.data.batches import Text, batches
from analysis.data.documents import windows_hash
from analysis.engine.ablations import block_kinds
from analysis.paper.shortgpt import paper_n_removed, removed_in_paper
from analysis.removal.orders import BLOCKS, ORDERS, Calibration
from analysis.removal.paths import RemovalPath, thinned, union
from analysis.runs.files import Strict, read_json
from analysis.runs.run import Run
from analysis.runs.settings import RunConfig, run_folder
from analysis.runs.single_removals import SingleRemovals
from analysis.runs.sweep_run import SweepStudy, identity
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI

POINTS = (1000, 16, 11, 8)  # of a path that are scored, at most: the most whose sweep a budget holds
SEARCHED = {True: 4, False: 16}  # documents that orders of many ablated models read, by whether the budget is short


class Kept(Strict):
    """A set of a path, as path.json holds it."""

    blocks: list[int] = Field(default=[])
    mixers: list[int] = Field(default=[])
    ffns: list[int] = Field(default=[])


class Found(NamedTuple):
    """Paths by the name of their order."""

    paths: dict[str, RemovalPath]
    seconds: dict[str, float]  # of the orders that the budget does not hold: what they would take
    searched: int  # documents that orders of many ablated models read


def find_paths(model: BlockModel, calibration: Text, config: RunConfig, rate: float, names: Sequence[str] = ()) -> Found:
    """Every order that the budget holds, of parts that the model has, or some of them, found on calibration text at `rate` FLOPs a second.

    Paths are kept beside the runs.
    """
    budget, progress = config.budget, config.progress
    few = replace(calibration, documents=min(calibration.documents, SEARCHED[budget.seconds is not None]))
    found_on = {
        t: Calibration(model, list(batches(t.windows(model), model)), progress, SingleRemovals(model, BLOCKS, t, config.out).scores)
        for t in (calibration, few)
    }
    result = Found({}, {}, few.documents)
    there = [name for name, order in ORDERS.items() if set(order.kinds) <= set(block_kinds(model.spec))]
    for name, order in ((name, ORDERS[name]) for name in names or there):
        read = few if order.searched else calibration
        takes = order.flops(model.spec, order.parts(model.spec) - 1) * read.documents * read.window / rate
        path = _kept(name, found_on[read], read, config.out, not order.searched or takes <= (budget.seconds or takes))
        if path is None:
            result.seconds[name] = takes
        else:
            result.paths[name] = path
    return result


def _kept(name: str, found_on: Calibration, text: Text, out: Path, affordable: bool) -> RemovalPath | None:
    """A path from the run folder, or else found now, from where it was left; None when it is not affordable."""
    order, model = ORDERS[name], found_on.model
    most = order.parts(model.spec) - 1
    what = identity(model, text) | {"order": noted(name, order.title, order.version), "windows": windows_hash(text.windows(model))}
    run = Run(run_folder(out, what), what)
    path = _read(run.folder / "path.json", name, model)
    if len(path) > most:
        return path
    if not affordable:
        return None

    def keep(path: RemovalPath) -> None:
        run.write_json("path.json", [ablation.to_json() for ablation in path])

    with run.writing({}):
        path = order.find(found_on, most, path, keep)
        keep(path)
    return path


def _read(file: Path, name: str, model: BlockModel) -> RemovalPath:
    """A path as far as it was found. Raises StrataError when the file holds none of this order and model."""
    if not file.exists():
        return (NONE,)
    fix = "remove it to compute the order again"
    path = tuple(Ablation.from_json(kept.model_dump()) for kept in read_json(file, list[Kept], fix))
    try:
        ORDERS[name].check(path, model.spec)
    except ValueError as error:
        raise StrataError(f"{file} cannot be used: {error}; {fix}") from None
    return path


def sized_paths(
    model: BlockModel, paths: Mapping[str, RemovalPath], text: Text, config: RunConfig, rate: float
) -> tuple[SweepStudy, dict[str, RemovalPath], Path]:
    """The sweep of as many sets as the budget holds with enough documents for intervals, or of those of a run that is there.

    Sets of the paper's size are always scored beside them, and the one that it printed for the model.
    """
    budget = config.budget
    choices = []
    for points in POINTS:
        thin = {name: thinned(path, points) for name, path in paths.items()}
        study = SweepStudy.of(model, [*union(thin), *_of_the_papers_size(model, paths)], text, kl=False)
        folder = run_folder(config.out, study.identity)
        choices.append((study, thin, folder))
        seconds = study.plan.flops_per_token * MIN_DOCUMENTS_FOR_CI * budget.window / rate
        if study.planned(folder) or seconds <= (budget.seconds or seconds):
            break
    study, thin, folder = choices[-1]
    documents = config.size(model, study.plan, study.planned(folder))
    return replace(study, text=text.at_most(documents, model)), thin, folder


def _of_the_papers_size(model: BlockModel, paths: Mapping[str, RemovalPath]) -> list[Ablation]:
    """The set that the paper printed for the model, and those that orders of blocks have taken out at its size."""
    n = len(model.spec.blocks)
    printed = removed_in_paper(model.spec.name, n)
    ours = [path[paper_n_removed(n)] for name, path in paths.items() if name in ORDERS and ORDERS[name].kinds == BLOCKS]
    return [Ablation(blocks=frozenset(printed)), *ours] if printed else ours
