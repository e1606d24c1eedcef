"""Every method at every size: pruned models, their losses on held-out text and their accuracies, kept in run folders."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from adapters.base import BlockModel
from analysis.corpora import windows_hash
from analysis.corpora.text import Batch, Text, batches, score_documents
from analysis.methods.accuracy import Answers, answers
from analysis.methods.method import Knob, Size, Solved, UnreachableError, solve
from analysis.methods.table import METHODS
from analysis.plan import plan
from analysis.runs import Run
from analysis.setting import run_folder
from analysis.statistics import Array
from analysis.study import SweepStudy, identity
from analysis.sweep import documents_per_batch, sweep
from analysis.tasks import TaskSet


@dataclass(frozen=True)
class Point:
    """One method at one size; what it lacks is None, and `why` says so."""

    method: str  # name in METHODS
    target: float  # share of the block parameters
    knob: Knob | None = None
    size: Size | None = None
    nll: Array | None = None  # (documents,)
    answers: tuple[Answers, ...] = ()  # of each task
    why: str = ""
    note: str = ""  # what the method chose by itself


@dataclass(frozen=True)
class Bench:
    """What every method is measured on."""

    model: BlockModel
    text: Text
    calibration: Text
    tasks: Sequence[TaskSet]
    out: Path

    @cached_property
    def read(self) -> list[Batch]:
        return list(batches(self.calibration.windows(self.model), self.model))

    def dense(self) -> tuple[dict[str, Array], tuple[Answers, ...]]:
        study = SweepStudy.of(self.model, [], self.text, kl=False)
        sums = study.scores(run_folder(self.out, "dense", study.identity))
        return {"nll": sums["nll"][0], "tokens": sums["tokens"]}, self._answers(self.model, run_folder(self.out, "dense", study.identity))

    def point(self, name: str, target: float) -> Point:
        """From the run folder as far as it is there. A size that the method does not reach is a point without a loss."""
        read = self.calibration.identity | {"windows": windows_hash(self.calibration.windows(self.model))}
        what = identity(self.model, self.text) | {"method": name, "target": target, "calibration": read}
        folder = run_folder(self.out, f"method-{name}", what)
        run, windows, held = Run(folder, what), self.text.windows(self.model), folder / "size.json"
        missing = not held.is_file() or any(window.id not in run.scores() for window in windows)
        try:
            solved = solve(METHODS[name], self.model, self.read, target) if missing or self.tasks else None
        except UnreachableError as error:
            return Point(name, target, why=str(error))
        sums = self._losses(run, solved)
        if solved:
            run.write_json("size.json", {"knob": solved.knob, "note": solved.note, **solved.size._asdict()})
        found = self._answers(solved.model, folder) if solved else ()
        said = json.loads(held.read_text())
        return Point(name, target, said.pop("knob"), nll=sums["nll"], answers=found, note=said.pop("note", ""), size=Size(**said))

    def _losses(self, run: Run, solved: Solved | None) -> Mapping[str, Array]:
        model = solved.model if solved else self.model  # which nothing is left to do for
        dense = plan(model.spec, [])

        def score(batch: Batch) -> dict[str, Array]:
            return {"nll": sweep(model, dense, batch.ids, batch.lengths, first=batch.first, kl=False)["nll"][0].numpy()}

        size = documents_per_batch(model, dense, self.text.window + 2, None)
        return score_documents(run, model, self.text.windows(self.model), size, score, {"spec": asdict(model.spec)})

    def _answers(self, model: BlockModel, folder: Path) -> tuple[Answers, ...]:
        return tuple(answers(model, tasks, folder / f"task-{tasks.name}") for tasks in self.tasks)
