"""`strata tasks`, and `strata sweep --task`: benchmarks from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from adapters.errors import StrataError, visible
from reports.cli.machines import Spread, measure
from reports.cli.names import SEED
from reports.cli.options import reader

if TYPE_CHECKING:
    import pandas as pd

    from adapters.base import BlockModel
    from analysis.runs.jobs import Job
    from analysis.tasks import Item, TaskSet

Name = Annotated[str, typer.Argument(help="A task or group of lm_eval, or one of `strata tasks list`.", show_default=False)]
Shots = Annotated[
    int | None, typer.Option(min=0, help="Examples before each question; the task's own number by default.", show_default=False)
]
Limit = Annotated[int | None, typer.Option(min=1, help="Documents of each task, all by default.", show_default=False)]
Data = Annotated[
    Path | None,
    typer.Option(
        help="Folder of benchmark files in their makers' formats or in Parquet as on the hub, or `texts` for the benchmarks in the "
        "offline texts; the hub by default. `strata tasks show --help` has the layout.",
        show_default=False,
    ),
]


RunCode = Annotated[
    bool, typer.Option("--run-code", help="Run programs that the model writes, as HumanEval asks, in a sandbox (Linux, bubblewrap).")
]
MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens", min=1, help="New tokens of each text; the task's own number by default.", show_default=False)
]


class Layouts(TyperCommand):
    """A command whose help ends with what a folder for --data holds."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        from analysis.tasks.copies import HELD
        from analysis.tasks.layouts import LAYOUTS

        held = [*(part for layout in LAYOUTS.values() for part in layout.held.split("; ")), HELD]
        self.epilog = "\b\nA folder for --data holds\n" + "\n".join(f"  {part}" for part in held)
        super().format_epilog(ctx, formatter)


app = typer.Typer(help="Benchmarks as lm_eval defines them.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_tasks(
    pattern: Annotated[str, typer.Argument(help="Part of a name.")] = "", as_json: Annotated[bool, typer.Option("--json")] = False
) -> None:
    """Names of tasks, groups and tags that hold the pattern: the pattern itself first, then those that begin with it.

    Example: strata tasks list mmlu_an
    """
    from analysis.tasks.index import names, not_found

    wanted = pattern.lower()
    held = [(name.lower(), name) for name in names() if wanted in name.lower()]
    found = [name for low, name in sorted(held, key=lambda one: (one[0] != wanted, not one[0].startswith(wanted), one))]
    if not found:
        raise not_found(pattern)
    print(json.dumps(found) if as_json else "\n".join(found))


@app.command(cls=Layouts)
def show(
    name: Name,
    doc: Annotated[int, typer.Option(min=0, help="Number of the document.")] = 0,
    shots: Shots = None,
    data: Data = None,
    model: Annotated[str | None, typer.Option(help="Also the tokens, as this model reads them.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(min=0, help="Chooses the examples.")] = SEED,
    run_code: RunCode = False,
) -> None:
    """The exact prompt, the continuations that are scored, and the right answer of one document.

    Example: strata tasks show mmlu_anatomy --doc 3 --shots 5
    """
    from analysis.tasks import load_tasks

    found = load_tasks(name, shots=shots, limit=doc + 1, seed=seed, data=data, run_code=run_code)
    items = [item for item in found.items if item.number == doc]
    if not items:
        raise StrataError(f"{name} has no document {doc}: it has {len(found.items)}")
    item = items[0]
    right, options = found.gold(item)
    loaded = reader(model, "auto", "auto")() if model else None
    if found.written:
        _show_written(found, item, loaded)
        return
    print(f"{item.task}, document {doc}, {len(item.instances)} continuations")
    for i, instance in enumerate(item.instances):
        *context, continuation = instance.args
        if i == 0 or context != list(item.instances[0].args[:-1]):
            print("--- context", *(visible(text, keep="\n") for text in context), sep="\n")
        print(f"--- continuation {i}{' (right)' if i in right else ''}: {continuation!r}")
    if not options:
        print(f"--- right: {found.tasks[item.task].doc_to_target(item.doc)!r}")
    if loaded:
        _show_tokens(found, loaded, found.items.index(item))


def _show_written(tasks: TaskSet, item: Item, model: BlockModel | None) -> None:
    context, options = item.instances[0].args
    print(f"{item.task}, document {item.number}, the answer is written")
    print("--- context", visible(context, keep="\n"), sep="\n")
    print(f"--- how: {json.dumps(options)}")
    print(f"--- right: {tasks.tasks[item.task].doc_to_target(item.doc)!r}")
    if model:
        from analysis.tasks.requests import prompt_ids

        tokens = prompt_ids(model, context)
        print(f"--- tokens: {len(tokens)}", list(tokens), sep="\n")


def _show_tokens(tasks: TaskSet, model: BlockModel, document: int) -> None:
    for i, request in enumerate(tasks.requests(model)[document]):
        print(f"--- tokens {i}: {len(request.context)} + {len(request.continuation)}")
        if i == 0:
            print(list(request.context))
        print(list(request.continuation))


def sweep_task(job: Job, name: str, out: Path, spread: Spread, dry_run: bool, as_json: bool) -> None:
    """Runs a benchmark under every ablation of the kinds, and prints what each costs; with `dry_run` what that takes."""
    from reports.cli import output

    if dry_run:
        from reports.cli import dry_run as tell

        tell.asked(tell.study_of(job, out), as_json)
        return
    found = measure(job, out, spread, f"{name} without parts of {job.source}", lambda study: study.steps)
    if found is None:
        return
    table, study = found
    if as_json:
        output.records(table)
        return
    output.cut(study)
    tasks = study.tasks
    _show(table, tasks.name if tasks.name in set(table["dataset"]) else str(table["dataset"].iloc[0]))
    output.where(out / "summary.csv")


def _show(table: pd.DataFrame, task: str) -> None:
    from reports.cli import output

    rows = table[table["dataset"] == task]
    first = next(metric.removeprefix("delta_") for metric in rows["metric"] if metric.startswith("delta_"))
    loss = next((metric for metric in ("log_loss", "nll") if metric in set(rows["metric"])), first)
    dense = rows[rows["kind"] == "dense"].set_index("metric")
    for metric in [m for m in dense.index if m != "beats_chance"]:
        print(f"unpruned {task} {metric} {output.interval(dense.loc[metric])}")
    if "beats_chance" in dense.index and not dense.loc["beats_chance", "value"]:
        print(f"the unpruned model is not significantly better than chance on {task}: changes of its accuracy mean nothing")
    output.ranked(rows, f"delta_{loss}")
