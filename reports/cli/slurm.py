"""`strata slurm`: a job script for an array of shards, and a job behind it that merges them."""

from __future__ import annotations

import math
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from adapters.errors import StrataError
from reports.cli.machines import COMMANDS, Intent, called_for, noted_command

HOUR = 3600.0
START = 600.0  # seconds that a task may take until its model is loaded
SLACK = 2.0  # how much slower than expected a task may be
WARNING = 120  # seconds before its limit that a task is told
RESTARTS = 3  # of a task that reached its limit

SCRIPT = """#!/bin/bash
# Submit with: bash THIS_FILE [options of sbatch, for example --array=1,3 to run two tasks again]
#SBATCH --job-name=strata
#SBATCH --array=0-{last}
#SBATCH --time={minutes}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@{warning}
{options}out={out}
if [ -z "$SLURM_JOB_ID" ]; then  # on the machine that submits
  mkdir -p "$out" && touch "$out/.shared" || exit 2
  job=$(sbatch --parsable "$@" "$0") || exit 2
  job=${{job%%;*}}
  sbatch --parsable --job-name=strata-merge --time=30 --dependency="afterany:$job" --wrap={merge} >/dev/null || exit 2
  echo "array $job, and behind it the job that merges; run this again to go on where it stopped"
  exit
fi
[ -e "$out/.shared" ] || {{ echo "$out is not on $(hostname): give --out a folder on a disk that all machines share" >&2; exit 2; }}
{command} --out "$out" --shard "slurm/{shards}" &
task=$!
stop() {{  # the limit is near: the batch at hand is dropped, and the task queued again
  kill -USR1 "$task"
  wait "$task"
  code=$?
  [ "$code" = {code} ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {restarts} ] && scontrol requeue "$SLURM_JOB_ID"
  exit "$code"
}}
trap stop USR1
trap 'kill -TERM "$task"; wait "$task"; exit $?' TERM
wait "$task"
"""


def slurm(
    context: typer.Context,
    command: Annotated[list[str], typer.Argument(help="What to run, behind --, with its --out.", show_default=False)],
    tasks: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, help="Tasks of the array; as many as take about an hour each by default.", show_default=False),
    ] = None,
    hours: Annotated[
        float | None, typer.Option(min=0.1, help="Limit of a task; twice what it takes on this machine by default.", show_default=False)
    ] = None,
    sbatch: Annotated[
        list[str] | None, typer.Option(help="A line for sbatch, as --sbatch=--gres=gpu:1; may be repeated.", show_default=False)
    ] = None,
) -> None:
    """Print a job script: an array of shards, tasks that are queued again, and a job that merges. The plan says how many and how long.

    Example: strata slurm --sbatch=--gres=gpu:1 -- sweep smollm2 --kind heads --out runs/heads > heads.sh; then: bash heads.sh
    """
    print(script(context, command, tasks, hours, sbatch or []), end="")


def script(context: typer.Context, command: list[str], tasks: int | None, hours: float | None, options: list[str]) -> str:
    if command[:1] not in ([name] for name in COMMANDS):
        raise StrataError(f"strata {command[0]} has no shards: give {', '.join(COMMANDS)} behind --")
    if any(word.partition("=")[0] == "--shard" for word in command):
        raise StrataError("the script says which shard a task is: leave out --shard")
    if bad := next((line for line in options if not line.startswith("-") or not line.isprintable()), None):
        raise StrataError(f"--sbatch {bad!r} is no option of sbatch: give for example --sbatch=--gres=gpu:1")
    out = _out(command)
    planned = Intent(planning=[])
    with called_for(planned):
        context.find_root().command.main(list(command), prog_name="strata", standalone_mode=False)
    if not planned.planning:
        raise StrataError("--dry-run and --until-resolved have no shards: leave them out")
    study = planned.planning[0]
    from analysis.display.format import count
    from analysis.engine.cost import speed

    scoring = study.scoring()
    documents = len(scoring.asked.documents)
    seconds = study.flops / speed(study.model, study.window)
    shards = min(tasks or math.ceil(seconds / HOUR), documents)
    units = len(scoring.pieces(scoring.whole, range(documents), shards))
    each = seconds * math.ceil(units / shards) / units
    minutes = math.ceil((hours * HOUR if hours else START + SLACK * each) / 60)
    print(
        f"{count(documents, 'document')} in {count(units, 'unit')} for {count(shards, 'task')}; about {each:,.0f} s each on this machine",
        file=sys.stderr,
    )
    words = ["strata", *noted_command(command), *_device(command)]
    return SCRIPT.format(
        last=shards - 1, shards=shards, minutes=minutes, warning=WARNING, restarts=RESTARTS, code=128 + 10,
        options="".join(f"#SBATCH {line}\n" for line in options), out=shlex.quote(str(out)),
        command=shlex.join(words), merge=shlex.quote(shlex.join(["strata", "merge", str(out)])),
    )  # fmt: skip


def _out(command: list[str]) -> Path:
    """Where the shards write."""
    for word, value in zip(command, [*command[1:], ""], strict=True):
        if word == "--out" or word.startswith("--out="):
            return Path(word.partition("=")[2] or value).expanduser().absolute()
    raise StrataError("--out is missing: name a folder on a disk that all machines share")


def _device(command: list[str]) -> list[str]:
    """What the command says of it."""
    for word, value in zip(command, [*command[1:], ""], strict=True):
        if word == "--device" or word.startswith("--device="):
            return ["--device", word.partition("=")[2] or value]
    return []
