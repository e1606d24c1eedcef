"""Shards: a study's units dealt out to machines that have nothing in common but a folder, and what is still lacking there."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pandas as pd
from pydantic import Field

from adapters.errors import StrataError
from analysis.data.hashes import content_hash
from analysis.display.format import count
from analysis.runs import files
from analysis.runs.files import Strict
from analysis.runs.folder import versions
from analysis.runs.records import Work
from analysis.runs.run import Run
from analysis.runs.scoring import Scoring

FILE = "shards.json"
INDEX = "SLURM_ARRAY_TASK_ID"
MOST = 100_000  # shards


class Study(Protocol):
    """What `map_documents` asks of a study, and what makes its table."""

    @property
    def documents(self) -> list[str]: ...
    def open(self, folder: Path) -> Run: ...
    def scoring(self) -> Scoring: ...
    def run(self, folder: Path) -> pd.DataFrame: ...
    def only(self, documents: Sequence[int]) -> Study: ...


@dataclass(frozen=True)
class Shard:
    """One of `of`."""

    index: int
    of: int

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str] = os.environ) -> Shard:
        """`3/16`; `slurm/16` takes the index from an array job, never the number of shards, for a retry of two tasks is an array of two."""
        index, slash, of = text.partition("/")
        if index == "slurm":
            index = environment.get(INDEX, "")
            if not index.isdecimal():
                raise StrataError(
                    f"`shard` {text} takes its index from {INDEX}, which is not set: run it in an array job, or name the index"
                )
        if not (slash and text.isascii() and index.isdecimal() and of.isdecimal() and len(text) < 30):
            raise StrataError(f"`shard` {text[:30]!r} is no share of a study: give index and number, for example 3/16 or slurm/16")
        found = cls(int(index), int(of))
        if not 0 <= found.index < found.of <= MOST:
            last = f"0/{of} to {found.of - 1}/{of}" if 0 < found.of <= MOST else f"for example 3/16, of {MOST:,} at most"
            raise StrataError(f"`shard` {text} does not exist: shards count from 0; give {last}")
        return found

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"

    @property
    def name(self) -> str:
        """Of its file and lock."""
        return f"shard-{self.index}-of-{self.of}"


class ShardPlan(Strict):
    """How a study was dealt out: unit u, documents ends[u - 1] to ends[u], is shard u % of's."""

    asked: dict[str, str]  # in words or as a hash: what all shards must agree in
    ends: list[int]
    of: int = Field(gt=0, le=MOST)
    versions: dict[str, str | None]
    command: list[str]  # that measures it, but for the program, its folder and its machine
    place: str  # folder in which it was given
    merged: bool = False  # the table is made: another plan may take its place

    @property
    def agreed(self) -> dict[str, str]:
        return {**self.asked, "number of shards": str(self.of)}

    def units(self, shard: int) -> list[range]:
        return [range(first, last) for first, last in zip([0, *self.ends], self.ends, strict=False)][shard :: self.of]

    def shard_of(self) -> list[int]:
        """Of each document."""
        shards = {d: shard for shard in range(self.of) for unit in self.units(shard) for d in unit}
        return [shards[d] for d in range(len(shards))]

    def run_again(self, shard: int, folder: Path) -> str:
        """The command."""
        return shlex.join(["strata", *self.command, "--out", str(folder), "--shard", f"{shard}/{self.of}"])


def read_plan(folder: Path) -> ShardPlan | None:
    """None where nothing was dealt out. Raises StrataError when the file holds anything else."""
    path = folder / FILE
    found = files.read_json(path, ShardPlan, "remove it to deal the study out anew; scores are kept") if path.exists() else None
    if found and not all(a < b for a, b in zip([0, *found.ends], found.ends, strict=False)):
        raise StrataError(f"{path} cannot be used: its units overlap; remove it to deal the study out anew; scores are kept")
    return found


@dataclass(frozen=True)
class OnShard:
    """The backend of one machine of several: its share of the units, into a file of its own."""

    shard: Shard
    command: Sequence[str]

    def __call__(self, run: Run, scoring: Scoring, todo: Mapping[Work, list[int]]) -> None:
        run = run.written_by(self.shard.name)
        with run.writing(scoring.about):
            plan = self._agreed(run, scoring)
            own = {work: [d for unit in _of(which, plan.units(self.shard.index)) for d in unit] for work, which in todo.items()}
            scoring.done(sum(map(len, todo.values())) - sum(map(len, own.values())))  # others'
            for work, which in own.items():  # all units at once: what their prompts share is read once
                for part, scores in scoring.answer(work, which):
                    scoring.keep(run, work, part, scores)

    def _agreed(self, run: Run, scoring: Scoring) -> ShardPlan:
        """The plan in the folder, which the first shard writes. Raises StrataError when it is of something else."""
        here = {**asked(scoring), "number of shards": str(self.shard.of)}
        with run.changing():
            found = read_plan(run.folder)
            if found is None or (found.merged and found.agreed != here):
                units = scoring.pieces(scoring.whole, range(len(scoring.asked.documents)), self.shard.of)
                ends = [unit[-1] + 1 for unit in units]
                found = ShardPlan(
                    asked=asked(scoring),
                    ends=ends,
                    of=self.shard.of,
                    versions=versions(),
                    command=list(self.command),
                    place=str(Path.cwd()),
                )
                run.write_json(FILE, found.model_dump())
        _require_same(run.folder, found.agreed, here)
        _require_whole(run.folder, found, len(scoring.asked.documents))
        for name, ours in versions().items():
            if (theirs := found.versions.get(name)) != ours:
                raise StrataError(
                    f"the shards in {run.folder} are scored with {name} {theirs}, and {platform.node()} has {ours}: use the same "
                    "environment on all machines, or give another `out`"
                )
        return found


def asked(scoring: Scoring) -> dict[str, str]:
    """What shards must agree in, beside the identity of their run."""
    question = scoring.asked
    n_documents, n_ablations = count(len(question.documents), "document"), count(len(question.ablations), "ablation")
    return {
        "metrics": ", ".join(question.metrics),
        "documents": f"{n_documents}, {content_hash(question.keys)[:8]}",
        "ablations": f"{n_ablations}, {content_hash([ablation.to_json() for ablation in question.ablations])[:8]}",
    }


def merge(study: Study, folder: Path, *, allow_missing: bool = False) -> tuple[pd.DataFrame, Study]:
    """The table of what shards have scored, and the study that it is of. Scores nothing.

    Raises StrataError that says which shards have not finished and how to run them, and where they are of something else.
    `allow_missing`: a table of the documents that are whole.
    """
    plan, run, scoring = read_plan(folder), study.open(folder), study.scoring()
    documents = len(scoring.asked.documents)
    missing = sorted({d for which in scoring.todo(run.records()).values() for d in which})
    if plan is None:  # where all was known before it was dealt out
        if missing:
            raise StrataError(f"{folder} holds no shards: there is no {FILE}")
        return study.run(folder), study
    _require_same(folder, plan.asked, asked(scoring))
    _require_whole(folder, plan, documents)
    if missing and not (allow_missing and len(missing) < documents):
        raise StrataError(_lacking(folder, plan, missing))
    if missing:
        part = study.only([d for d in range(documents) if d not in set(missing)])
        return part.run(folder), part
    table = study.run(folder)
    run.write_json(FILE, plan.model_copy(update={"merged": True}).model_dump())
    return table, study


def _lacking(folder: Path, plan: ShardPlan, missing: Sequence[int]) -> str:
    shard_of = plan.shard_of()
    shards = sorted({shard_of[d] for d in missing})
    which = f"{', '.join(map(str, shards[:20]))}{' ...' if len(shards) > 20 else ''} of {plan.of}"
    again = f"run `{plan.run_again(shards[0], folder)}`" + (" and so on" if len(shards) > 1 else "")
    return (
        f"{folder} lacks {len(missing)} of {count(len(shard_of), 'document')}, those of shard{'s' * (len(shards) > 1)} {which}: {again}; "
        "where they have run, their machines do not share this folder"
    )


def _require_whole(folder: Path, plan: ShardPlan, documents: int) -> None:
    if plan.ends[-1:] != [documents]:
        raise StrataError(
            f"{folder / FILE} cannot be used: its units are not of the {documents} documents; remove it to deal the study out anew"
        )


def _require_same(folder: Path, theirs: Mapping[str, str], ours: Mapping[str, str]) -> None:
    if differing := [f"{name}: {theirs.get(name)} there, {value} here" for name, value in ours.items() if theirs.get(name) != value]:
        raise StrataError(
            f"{folder} holds shards of another plan ({'; '.join(differing)}): finish and merge them first, give another `out`, or remove "
            f"{folder / FILE} to deal the study out anew (scores are kept)"
        )


def _of(which: Sequence[int], units: Sequence[Sequence[int]]) -> list[list[int]]:
    """What of each unit is among `which`."""
    wanted = set(which)
    return [part for unit in units if (part := [d for d in unit if d in wanted])]
