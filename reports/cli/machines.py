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
from typer.core import TyperCommand

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
RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        help="Score with Ray's workers: on this machine, or on the cluster whose head is at HOST:PORT. "
        "One for each card, or for four cores where there are none.",
        metavar="[HOST:PORT]",
        show_default=False,
    ),
]
WorkersOption = Annotated[int | None, typer.Option("--workers", min=1, help="How many of Ray's workers.", show_default=False)]
HERE = "here"  # --ray without an address
COMMANDS = ("sweep", "importance", "spans", "evaluate", "generate")  # whose work can be dealt out
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


def handed_out() -> bool:
    """Is the command given for other machines, or for what they have scored?"""
    intent = INTENT.get(Intent())
    return intent.planning is not None or intent.merging


@dataclass(frozen=True)
class Spread:
    """Over which machines."""

    shard: str | None = None
    ray: str | None = None  # an address, or HERE
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.shard is not None and self.ray is not None:
            raise StrataError("--shard and --ray both say who scores what: give one of them")
        if self.workers is not None and self.ray is None:
            raise StrataError("--workers is of Ray: give --ray too")


def job_of(model: str, device: str, dtype: str, revision: str | None, weights: str, make: Callable[[BlockModel], Any]) -> Job:
    """Of the options of a command. In a terminal it says that the model is loaded, for imports and weights take their time."""
    from analysis.runs.jobs import Job

    if sys.stderr.isatty():
        print(visible(f"loading {model} ..."), file=sys.stderr, flush=True)
    return Job(model, device, dtype, revision, make, weights)


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
    if spread.ray is not None:
        return _ray(job, out, spread, title, total)
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
    from adapters.registry import device_of
    from analysis.runs.processes import on_devices
    from analysis.runs.shards import FILE, read_plan

    devices = [device.strip() for device in job.device.split(",")]
    if not all(devices):
        raise StrataError(f"--device {job.device} names a device without a name: give for example cuda:0,cuda:1")
    for device in devices:
        device_of(device)
    if (plan := read_plan(out)) and plan.command == command:
        (out / FILE).unlink()  # dealt out anew, to these devices
    shapes = job.shapes(devices[0])  # errors come before anything is begun
    with bar(f"{title} on {len(devices)} devices", total(shapes)) as advance:
        on_devices(job, devices, out, command, advance)
    return _merge(replace(job, device=devices[0]), out, False)


def _ray(job: Job, out: Path, spread: Spread, title: str, total: Callable[[Any], int]) -> tuple[pd.DataFrame, Any]:
    from analysis.display.format import count
    from analysis.runs.on_ray import workers
    from analysis.runs.scoring import map_documents

    job.shapes("cpu").open(out)  # errors come before Ray is started
    with workers(job, None if spread.ray == HERE else spread.ray, spread.workers) as found:
        study = job.reading(found.first["identity"])
        with bar(f"{title} on {count(len(found.actors), 'worker')}", total(study)) as advance:
            map_documents(study.open(out), study.scoring(advance), found)
        if found.seconds:
            print(found.rates, file=sys.stderr)
    return study.run(out), study


class WithRay(TyperCommand):
    """A command whose --ray takes an address or none."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = list(args)
        for i, (word, value) in enumerate(zip(args, [*args[1:], "-"], strict=True)):
            if word == "--ray" and not (":" in value and not Path(value).exists()):
                given[i] = f"--ray={HERE}"
        return super().parse_args(ctx, given)


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
    if plan is None or plan.command[:1] not in ([name] for name in COMMANDS):
        raise StrataError(f"{folder} holds no shards: {FILE} is missing, or of no command that has any")
    if Path(plan.place).is_dir():
        os.chdir(plan.place)  # where relative paths of the command begin
    words = [*plan.command, "--out", str(folder), *["--json"] * as_json]
    with called_for(Intent(merging=True, allow_missing=allow_missing)):
        context.find_root().command.main(words, prog_name="strata", standalone_mode=False)
