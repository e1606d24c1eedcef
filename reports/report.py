"""The report: every notebook on every model, as one PDF and one HTML file."""

from __future__ import annotations

import platform
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as Bar

from adapters.errors import StrataError
from adapters.registry import load, locate
from analysis.budgets import BUDGETS, budget, cost
from analysis.corpora import documents
from analysis.depth import KINDS
from analysis.effects import Effects
from analysis.groups import groups, zoo_facts
from reports.convert import convert
from reports.execute import Progress, execute

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
DEFAULTS = {"corpus": "texts", "device": "auto", "dtype": "auto", "seed": 0}  # of the options
Tell = Callable[[str, Progress], None]  # told of which model, and where its notebook stands
ROOM = 64 << 20  # bytes that notebooks, pictures and the converters' own files may take
COMPARISON = "compare.ipynb"  # over all models, at the end
SECTIONS = ("depth.ipynb", "importance.ipynb")  # in the order of the report


def make(models: Sequence[str], size: str, out: Path, **options: str | int) -> tuple[Path, Path]:
    """Writes out/report.pdf and out/report.html. Runs are kept in out/runs, executed notebooks in out/notebooks.

    `options` are parameters of the notebooks. Raises StrataError on bad input, before anything is written where that can
    be known, and when there is no room for the report.
    """
    check(models, size, **options)
    executed = []
    with _room(out), _progress() as tell:
        for model in models:
            parameters = {"model": model, "budget": size, "out": str(out / "runs"), **options}
            folder = out / "notebooks" / _slug(model)
            executed += execute([NOTEBOOKS / name for name in SECTIONS], folder, parameters, progress=partial(tell, model))
        if len(models) > 1:
            executed += _compared(models, size, out, options, tell)
        title = f"Redundancy of {' and '.join(Path(m).name for m in models)}"
        return convert(executed, out, title=title, subtitle="Measured by Strata", facts=_facts("report", models, size, options))


def compare(models: Sequence[str], size: str, out: Path, **options: str | int) -> tuple[Path, Path]:
    """As `make`, of the comparison of all models alone. Raises StrataError for a single model as well."""
    if len(models) < 2:
        raise StrataError(f"{', '.join(models)} alone is no comparison: name two models or more, or use `strata report`")
    check(models, size, **options)
    with _room(out), _progress() as tell:
        executed = _compared(models, size, out, options, tell)
        title = f"{' and '.join(Path(m).name for m in models)} compared"
        return convert(executed, out, title=title, subtitle="Measured by Strata", facts=_facts("compare", models, size, options))


def _compared(models: Sequence[str], size: str, out: Path, options: Mapping[str, str | int], tell: Tell) -> list[Path]:
    parameters = {"models": str(list(models)), "budget": size, "out": str(out / "runs"), **options}
    return execute([NOTEBOOKS / COMPARISON], out / "notebooks" / "all", parameters, progress=partial(tell, "all models"))


def check(models: Sequence[str], size: str, **options: str | int) -> None:
    """Raises StrataError for what can be known to be wrong before a model is loaded."""
    budget(size)
    next(documents(str(options["corpus"])))
    for model in models:
        locate(model, None)
    if len(set(models)) < len(models):
        raise StrataError(f"a model is named twice: {', '.join(models)}")
    groups(models, zoo_facts())


def expect(models: Sequence[str], size: str, out: Path, **options: str | int) -> None:
    """Prints what the sweep of each model will take on this machine; the other sections take little beside it."""
    check(models, size, **options)
    for model in models:
        loaded = load(model, device=str(options["device"]), dtype=str(options["dtype"]))
        asked = {name: options.get(name) for name in ("corpus", "documents", "seed")}
        effects = Effects.sized(loaded, KINDS, BUDGETS[size], out / "runs", **asked)  # type: ignore[arg-type]
        found = cost(loaded, effects.plan, effects.text.documents, effects.text.window)
        print(
            f"{model}: {len(effects.plan.ablations) - 1} ablations on {effects.text.documents} documents, {found.tokens:,} tokens; "
            f"{found.mixer_rows:,} rows through mixers and {found.ffn_rows:,} through ffns a document; "
            f"up to {found.memory / 2**20:,.0f} MB beside the model; about {found.seconds / 60:.0f} minutes"
        )


@contextmanager
def _room(out: Path) -> Iterator[None]:
    """Turns a folder that cannot be written to, or a full disk, into a StrataError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(out).free) < ROOM:
            raise OSError(f"{free / 2**20:.0f} MB are free, a report takes up to {ROOM >> 20}")
        yield
    except OSError as error:
        raise StrataError(f"cannot write to {out}: {error.strerror or error}; free some space or give another --out") from error


@contextmanager
def _progress() -> Iterator[Tell]:
    """A bar in a terminal; elsewhere a line a minute, and one for each notebook."""
    console = Console(stderr=True, highlight=False)
    with Bar(console=console, disable=not console.is_terminal) as bar:
        task, last, shown = bar.add_task("", total=None), 0.0, ""

        def tell(model: str, at: Progress) -> None:
            nonlocal last, shown
            title = f"{model}, {at.notebook.stem}"
            bar.update(task, description=escape(f"{title}: {at.note or 'starts'}"), completed=at.cell, total=at.n_cells)
            if not console.is_terminal and (title != shown or (at.note and time.monotonic() - last > 60)):
                print(f"{title}: {at.note or 'starts'}", file=sys.stderr, flush=True)
                last, shown = time.monotonic(), title

        yield tell


def _facts(command: str, models: Sequence[str], size: str, options: Mapping[str, str | int]) -> dict[str, str]:
    sizes = BUDGETS[size]
    cuda = torch.cuda.is_available() and options["device"] != "cpu"
    given = [f"--{name} {shlex.quote(str(value))}" for name, value in options.items() if value != DEFAULTS.get(name)]
    processor = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
    limit = f", about {sizes.seconds / 60:.0f} minutes a sweep" if sizes.seconds else ""
    return {
        "Date": date.today().isoformat(),
        "Models": ", ".join(models),
        "Budget": f"{size}: windows of {sizes.window} tokens from up to {sizes.documents} documents{limit}",
        "Machine": f"{platform.system()} {platform.machine()}, {processor}",
        "Command": " ".join([f"strata {command}", shlex.join(models), f"--budget {size}", *given]),
        "Versions": f"strata {version('llm-strata')}, torch {torch.__version__}, transformers {version('transformers')}",
    }


def _slug(model: str) -> str:
    """A folder name for a model's name, hub id or path."""
    return re.sub(r"[^\w.-]+", "-", model).strip("-.") or "model"
