"""Every method at every size: pruned models, their losses on held-out text and their accuracies, kept in run folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from adapters.ablation import NONE
from adapters.base import BlockModel
from adapters.errors import StrataError
from analysis.data.batches import Batch, Text, batches
from analysis.data.documents import windows_hash
from analysis.data.hashes import content_hash
from analysis.engine.plan import plan
from analysis.engine.sweep import documents_per_batch, sweep
from analysis.methods.accuracy import Answers, answers
from analysis.methods.method import Level, Size, Solved, UnreachableError, solve
from analysis.methods.table import METHODS
from analysis.runs.files import Strict, read_json
from analysis.runs.records import Work
from analysis.runs.run import Run
from analysis.runs.scoring import COUNTED, Question, map_documents, on_windows
from analysis.runs.settings import run_folder
from analysis.runs.sweep_run import SweepStudy, identity
from analysis.stats.intervals import Array
from analysis.tasks import TaskSet
from analysis.tasks.study import TaskStudy

SIZE, ANSWERS = "size.json", "answers.json"  # beside the losses of a point: what was solved, and answers by what was asked
FIX = "remove it to run the method again"

Share = Annotated[float, Field(le=1)]  # negative where a method adds


class Kept(Strict):
    """What a method was told, what that gave, and what it said."""

    level: float
    block_params: Share
    params: Share
    active: Share | None = None  # not there in runs from before there were experts
    flops: Share
    note: str = ""

    @property
    def size(self) -> Size:
        return Size(self.block_params, self.params, self.params if self.active is None else self.active, self.flops)


class KeptAnswers(Strict):
    """`Answers` as JSON."""

    values: list[float]
    counts: list[Annotated[float, Field(gt=0)]]
    chance: Annotated[float, Field(ge=0, le=1)] | None


@dataclass(frozen=True)
class PrunedPoint:
    """One method at one size; what it lacks is None, and `why` says so."""

    method: str  # name in METHODS
    target: float  # share of the block parameters
    level: Level | None = None
    size: Size | None = None
    nll: Array | None = None  # (documents,)
    answers: tuple[Answers, ...] = ()  # of each task
    why: str = ""
    note: str = ""  # what the method chose by itself


@dataclass(frozen=True)
class MethodRuns:
    """What every method is measured on."""

    model: BlockModel
    text: Text
    calibration: Text
    tasks: Sequence[TaskSet]
    out: Path

    @cached_property
    def read(self) -> list[Batch]:
        return list(batches(self.calibration.windows(self.model), self.model))

    @cached_property
    def asked(self) -> list[str]:
        """A hash of each task: of its name, what it asks and which answers are right."""
        return [content_hash([t.name, t.requests(self.model), [t.gold(item) for item in t.items]]) for t in self.tasks]

    def dense(self) -> tuple[dict[str, Array], tuple[Answers, ...]]:
        study = SweepStudy.of(self.model, [], self.text, kl=False)
        sums = study.scores(run_folder(self.out, study.identity))
        found = [answers(self.model, t, run_folder(self.out, TaskStudy.of(self.model, [], t).identity)) for t in self.tasks]
        return {"nll": sums["nll"][0], "tokens": sums["tokens"]}, tuple(found)

    def point(self, name: str, target: float) -> PrunedPoint:
        """From the run folder as far as it is there. A size that the method does not reach is a point without a loss."""
        read = self.calibration.identity | {"windows": windows_hash(self.calibration.windows(self.model))}
        what = identity(self.model, self.text) | {"method": name, "target": target, "calibration": read, **METHODS[name].about}
        run = Run(run_folder(self.out, what), what, ("nll", *COUNTED))
        if not self._whole(run):
            try:
                self._score(run, solve(METHODS[name], self.model, self.read, target))
            except UnreachableError as error:
                return PrunedPoint(name, target, why=str(error))
        said, kept = _size(run), self._kept(run)
        nll = self._question.answer(run.records())["nll"][0]
        assert said is not None
        found = tuple(Answers(np.array(a.values), np.array(a.counts), a.chance) for a in (kept[key] for key in self.asked))
        return PrunedPoint(name, target, said.level, nll=nll, answers=found, note=said.note, size=said.size)

    def _whole(self, run: Run) -> bool:
        """Is everything there?"""
        asked, kept = self._question, self._kept(run)
        lacking = run.records().missing(asked.metrics, asked.ablations, asked.keys)
        return _size(run) is not None and not lacking and all(a in kept for a in self.asked)

    @property
    def _question(self) -> Question:
        return Question.of([NONE], ["nll"], self.text.windows(self.model))

    def _score(self, run: Run, solved: Solved) -> None:
        """What the folder does not hold yet."""
        model, dense = solved.model, plan(solved.model.spec, [])

        def score(batch: Batch, work: Work) -> dict[str, Array]:
            return {"nll": sweep(model, dense, batch.ids, batch.lengths, first=batch.first, kl=False)["nll"].numpy()}

        size = documents_per_batch(model, dense, self.text.window + 2, None)
        about = {"spec": asdict(model.spec), "read": self.text.reading(self.model).to_json()}
        windows = self.text.windows(self.model)
        map_documents(run, on_windows(self._question, about, windows, model, lambda work: size, score))
        run.write_json(SIZE, {"level": solved.level, "note": solved.note, **solved.size._asdict()})
        answered = self._answers(model, run.folder)
        found = [KeptAnswers(values=a.values.tolist(), counts=a.counts.tolist(), chance=a.chance) for a in answered]
        kept = self._kept(run) | dict(zip(self.asked, found, strict=True))
        run.write_json(ANSWERS, {key: answers.model_dump() for key, answers in kept.items()})

    def _answers(self, model: BlockModel, folder: Path) -> list[Answers]:
        return [answers(model, tasks, folder / f"task-{tasks.name}") for tasks in self.tasks]

    def _kept(self, run: Run) -> dict[str, KeptAnswers]:
        """By what was asked, also for other tasks. Raises StrataError when the file holds something else."""
        path = run.folder / ANSWERS
        found = read_json(path, dict[str, KeptAnswers], FIX) if path.exists() else {}
        for key, tasks in zip(self.asked, self.tasks, strict=True):
            if key in found and not len(found[key].values) == len(found[key].counts) == len(tasks.items):
                raise StrataError(f"{path} cannot be used: its answers on {tasks.name} are not of {len(tasks.items)} questions; {FIX}")
        return found


def _size(run: Run) -> Kept | None:
    """None when it is not there. Raises StrataError when the file holds something else."""
    path = run.folder / SIZE
    return read_json(path, Kept, FIX) if path.exists() else None
