"""`strata report` and `strata compare`: reports from the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapters.errors import StrataError, visible
from reports.cli.options import AsJson, Corpus, Device, DryRun, Dtype, Seed, Weights, required
from reports.cli.tasks import Data, MaxTokens, RunCode

if TYPE_CHECKING:
    from analysis.tasks import TaskSet
    from reports.request import ReportRequest

DOCUMENTS, WINDOW = 64, 128  # of a text on which models are compared without a report
Models = Annotated[
    list[str],
    typer.Argument(help="Names of `strata models`, folders, .gguf files or hub ids; `zoo` is all of the zoo.", show_default=False),
]
Compared = Annotated[
    str,
    typer.Option("--compare", help="Models of the final comparison, separated by commas; all of the report by default, none with --only."),
]
Only = Annotated[
    str,
    typer.Option(
        help="Only these sections, whatever time they take, separated by commas: depth,pruning; of one model, on 12 documents of 32 "
        "tokens: smollm2:width=12x32."
    ),
]
Window = Annotated[int | None, typer.Option(min=2, help="Tokens of each document; by default the budget's.", show_default=False)]
Size = Annotated[str, typer.Option("--budget", help="quick, or full (for conclusions).")]
Folder = Annotated[Path, typer.Option("--out", help="Folder of the report and its runs; rerun the command to resume a stopped report.")]
Compare = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Folder of a report on which model is more redundant, and its runs; rerun the command to resume.", show_default=False
    ),
]
Documents = Annotated[
    int | None, typer.Option(min=1, help="Number of documents; by default as many as the budget allows.", show_default=False)
]
Tasks = Annotated[str, typer.Option(help="Benchmarks to add, separated by commas (`strata tasks list`); the report then takes longer.")]
Questions = Annotated[int, typer.Option("--limit", min=1, help="Number of questions per benchmark.")]


def report(
    models: Models,
    compared: Compared = "",
    only: Only = "",
    size: Size = "quick",
    out: Folder = Path("reports/out/report"),
    corpus: Corpus = "texts",
    documents: Documents = None,
    window: Window = None,
    tasks: Tasks = "",
    data: Data = None,
    limit: Questions = 40,
    run_code: RunCode = False,
    max_tokens: MaxTokens = None,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    weights: Weights = "auto",
    dry_run: DryRun = False,
) -> None:
    """Run the notebooks on each model, those that the budget holds, and join them in one report.pdf and report.html.

    Example: strata report smollm2 --budget quick --out reports/out/quick
    """
    from reports.request import ReportRequest

    how = {"device": device, "dtype": dtype, "weights": weights, "run_code": run_code or None, "max_tokens": max_tokens}
    options = _options(tasks, data, limit, corpus=corpus, documents=documents, window=window, seed=seed, **how)
    _make(ReportRequest.of(models, _split(compared), size, out, _split(only), options), dry_run)


def compare(
    models: Models,
    size: Size = "quick",
    out: Compare = None,
    corpus: Corpus = "texts",
    documents: Documents = None,
    window: Window = None,
    tasks: Tasks = "",
    data: Data = None,
    limit: Questions = 40,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    weights: Weights = "auto",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """By how much models are worse than the first, paired over the same bytes and questions; with --out which is more redundant.

    A pruned model knows what it was pruned from. With --out their redundancy is compared as report.pdf and report.html, where models
    of one training budget that differ in their seed alone count as one architecture.

    Example: strata compare smollm2 pruned/smollm2-bi-3 --tasks piqa --data texts

    Example: strata compare zoo-llama-0 zoo-rwkv5-0 --out reports/out/zoo-compared
    """
    from reports.request import ReportRequest

    how = {"device": device, "dtype": dtype, "weights": weights}
    if out is None and not dry_run:
        text = {"corpus": corpus, "documents": documents or DOCUMENTS, "window": window or WINDOW, "seed": seed}
        _differ(models, text, _tasks(tasks, data, limit), how, as_json)
        return
    if as_json:
        raise StrataError("--json prints by how much models are worse, and --out makes a report: give one of them")
    out = out or Path("reports/out/compare")
    options = _options(tasks, data, limit, corpus=corpus, documents=documents, window=window, seed=seed, **how)
    _make(ReportRequest.of([], models, size, out, [], options), dry_run)


def _tasks(tasks: str, data: Path | None, limit: int) -> list[TaskSet]:
    if not tasks:
        _options(tasks, data, limit)
        return []
    from analysis.tasks import load_tasks

    return [load_tasks(task, limit=limit, data=data and data.expanduser()) for task in _split(tasks)]


def _differ(models: list[str], text: dict[str, Any], tasks: list[TaskSet], how: dict[str, str], as_json: bool) -> None:
    from adapters.registry import load
    from analysis.comparison.difference import difference
    from analysis.data.batches import Text
    from reports.cli import output
    from reports.request import everything

    found = difference(everything(models), lambda name: load(name, **how), Text(**text), tasks, out=required(None, optional=True))
    if as_json:
        output.records(found.table)
        return
    for line in (*found.kin, *found.sentences, *found.guesses, found.read):
        print(visible(line))
    print(
        "paired, with 95 % intervals; of all that is called worse or better here at most 5 % is so by chance. "
        "Another corpus or more text: --corpus, --documents, --window; a report on redundancy: --out"
    )


def _options(tasks: str, data: Path | None, limit: int, **text: str | int | None) -> dict[str, str | int]:
    """Parameters of the notebooks; without `documents` they choose."""
    if data and not tasks:
        raise StrataError(f"--data {data} holds questions of benchmarks: name them by --tasks, or use --corpus for a text")
    given = text | ({"tasks": tasks, "limit": limit, "data": str(data) if data else None} if tasks else {})
    return {name: value for name, value in given.items() if value is not None}


def _split(words: str) -> list[str]:
    return [word.strip() for word in words.split(",") if word.strip()]


def _make(request: ReportRequest, dry_run: bool) -> None:
    """Prints the files that it writes, or with `dry_run` what they will take; exit code 1 for a notebook with a mistake in it."""
    from reports.execute import NotebookError
    from reports.expected import expect
    from reports.report import make

    if dry_run:
        expect(request)
        return
    try:
        for path in make(request):
            print(visible(path))
    except NotebookError as error:  # its traceback stands in the executed notebook
        print(visible(f"strata: {error}"), file=sys.stderr)
        sys.exit(1)
