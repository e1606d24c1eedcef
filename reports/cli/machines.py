"""How a study is spread over machines: --shard, a list of devices, --ray; and the table, made where everything is there."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapters.errors import StrataError, visible
from reports.cli.options import bar

if TYPE_CHECKING:
    import pandas as pd

    from adapters.base import BlockModel
    from analysis.runs.jobs import Job

ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        help="Score one share of several, as 3/16 (they count from 0) or, in a Slurm array, slurm/16: the table is made by "
        "`strata merge`, or the command without --shard.",
        show_default=False,
    ),
]
LEFT_OUT = ("--out", "--shard", "--device")  # of a command that is noted: they are of one machine, or said again


@dataclass
class Intent:
    """What a command is called for."""

    allow_missing: bool = False
    merging: bool = False
    planning: list[Any] | None = None  # the study is put in here, and nothing else is done


INTENT: ContextVar[Intent] = ContextVar("INTENT")


@contextmanager
def called_for(intent: Intent) -> Iterator[None]:
    token = INTENT.set(intent)
    try:
        yield
    finally:
        INTENT.reset(token)


@dataclass(frozen=True)
class Spread:
    """Over which machines."""

    shard: str | None = None


def job_of(model: str, device: str, dtype: str, revision: str | None, make: Callable[[BlockModel], Any]) -> Job:
    """Of the options of a command. In a terminal it says that the model is loaded, for imports and weights take their time."""
    from analysis.runs.jobs import Job

    if sys.stderr.isatty():
        print(visible(f"loading {model} ..."), file=sys.stderr, flush=True)
    return Job(model, device, dtype, revision, make)


def noted_command(words: Sequence[str] | None = None) -> list[str]:
    """The words of the command line that say what is measured, but for the program and LEFT_OUT."""
    words = list(sys.argv[1:] if words is None else words)
    found: list[str] = []
    while words:
        word = words.pop(0)
        if word in LEFT_OUT:
            words = words[1:]
        elif word.partition("=")[0] not in LEFT_OUT and word != "--json":
            found.append(word)
    return found


def measure(
    job: Job, out: Path, spread: Spread, title: str, total: Callable[[Any], int], command: Sequence[str] | None = None
) -> tuple[pd.DataFrame, Any] | None:
    """The table and its study; None where this command makes none. `total` of a study is what its progress counts up to."""
    from analysis.runs.shards import Shard, read_plan

    intent = INTENT.get(Intent())
    command = noted_command() if command is None else command
    if intent.planning is not None:
        intent.planning.append(job.study())
        return None
    if spread.shard is not None:
        _shard(job, out, Shard.parse(spread.shard), title, total, command)
        return None
    if "," in job.device:
        return _devices(job, out, title, total, command)
    plan = read_plan(out)
    if intent.merging or (plan is not None and (not plan.merged or plan.command == command)):
        return _merge(job, out, intent.allow_missing)
    study = job.study()
    with bar(title, total(study)) as advance:
        return study.run(out, advance), study


def _shard(job: Job, out: Path, shard: Any, title: str, total: Callable[[Any], int], command: Sequence[str]) -> None:
    from analysis.runs.scoring import map_documents
    from analysis.runs.shards import OnShard

    if "," in job.device:
        raise StrataError(f"a shard is of one device, not of {job.device}: leave out --shard, or give one --device")
    study = job.study()
    with bar(f"{title}, shard {shard}", total(study)) as advance:
        map_documents(study.open(out), study.scoring(advance), OnShard(shard, command))
    print(visible(f"shard {shard} is scored; `strata merge {out}` makes the table when all {shard.of} are"), file=sys.stderr)


def _devices(job: Job, out: Path, title: str, total: Callable[[Any], int], command: Sequence[str]) -> tuple[pd.DataFrame, Any]:
    from analysis.runs.processes import on_devices
    from analysis.runs.shards import FILE, read_plan

    devices = [device.strip() for device in job.device.split(",")]
    if not all(devices):
        raise StrataError(f"--device {job.device} names a device without a name: give for example cuda:0,cuda:1")
    if (plan := read_plan(out)) and plan.command == command:
        (out / FILE).unlink()  # dealt out anew, to these devices
    shapes = job.shapes(devices[0])  # errors come before anything is begun
    with bar(f"{title} on {len(devices)} devices", total(shapes)) as advance:
        on_devices(job, devices, out, command, advance)
    return _merge(replace(job, device=devices[0]), out, False)


def _merge(job: Job, out: Path, allow_missing: bool) -> tuple[pd.DataFrame, Any]:
    from analysis.runs.read_run import manifest_of
    from analysis.runs.shards import merge

    return merge(job.reading(manifest_of(out).identity), out, allow_missing=allow_missing)


def merge(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="The --out of the shards.", show_default=False)],
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Of the documents that are there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make the table of what shards have scored, without loading weights; say which shards are not done, and how to run them.

    Example: strata merge runs/heads
    """
    from analysis.runs.shards import FILE, read_plan

    folder = folder.expanduser().absolute()
    plan = read_plan(folder)
    if plan is None or plan.command[:1] not in (["sweep"], ["importance"], ["spans"]):
        raise StrataError(f"{folder} holds no shards: {FILE} is missing, or of no command that has any")
    if Path(plan.place).is_dir():
        os.chdir(plan.place)  # where relative paths of the command begin
    words = [*plan.command, "--out", str(folder), *["--json"] * as_json]
    with called_for(Intent(merging=True, allow_missing=allow_missing)):
        context.find_root().command.main(words, prog_name="strata", standalone_mode=False)
