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
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as Bar

from adapters.base import BlockModel
from adapters.catalogue import ZOO, zoo
from adapters.errors import StrataError
from adapters.registry import load, locate
from analysis.budgets import BUDGETS, budget, cost
from analysis.comparison.groups import groups, zoo_facts
from analysis.corpora import documents
from analysis.depth import KINDS
from analysis.effects import Effects
from analysis.notebook import Tasks
from analysis.setting import Setting
from reports.convert import convert
from reports.execute import Progress, execute, parameters_of
from reports.sections import SECTIONS, Choice, choose, comparison_seconds, kept, left_out

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
DEFAULTS = {"corpus": "texts", "device": "auto", "dtype": "auto", "seed": 0}  # of the options
Tell = Callable[[str, Progress], None]  # told of which model, and where its notebook stands
ROOM = 64 << 20  # bytes that notebooks, pictures and the converters' own files may take
COMPARISON = "compare.ipynb"  # at the end


def make(
    models: Sequence[str], compared: Sequence[str], size: str, out: Path, only: Sequence[str] = (), **options: str | int
) -> tuple[Path, Path]:
    """Writes out/report.pdf and out/report.html: the sections of `models` that the budget holds, and `compared` side by side.

    With `only` these are the sections, whatever they take, and a comparison is made when it is asked for by name.

    Runs are kept in out/runs, executed notebooks in out/notebooks. `options` are parameters of the notebooks. Raises
    StrataError on bad input, before anything is written where that can be known, and when there is no room for the report.
    """
    models, compared = _named(models, compared, size, only, options)
    about: dict[Path, str] = {}
    with _room(out), _progress() as tell:
        sections = _sections(models, size, out, options, only, compared)
        for model in models:
            parameters = {"model": model, "budget": size, "out": str(out / "runs"), **options}
            notebooks = [NOTEBOOKS / s.notebook for s in sections if s.model == model and s.held]
            executed = execute(notebooks, out / "notebooks" / _slug(model), parameters, progress=partial(tell, model))
            about |= dict.fromkeys(executed, Path(model).name if len(models) > 1 else "")
        if compared:
            about |= dict.fromkeys(_compared(compared, size, out, options, tell), "")
        title = f"Redundancy of {_names(models)}"
        facts = _facts("report", models, size, options, compared, only)
        ending = left_out(sections, out, _words(options))
        return convert(list(about), out, title=title, subtitle="Measured by Strata", facts=facts, about=about, ending=ending)


def compare(models: Sequence[str], size: str, out: Path, **options: str | int) -> tuple[Path, Path]:
    """As `make`, of the comparison of all models alone. Raises StrataError for a single model as well."""
    models = everything(models)
    check_comparison(models, size, **options)
    if "tasks" in options:
        _check_tasks(options)
    with _room(out), _progress() as tell:
        executed = _compared(models, size, out, options, tell)
        title = f"{_names(models)} compared"
        return convert(executed, out, title=title, subtitle="Measured by Strata", facts=_facts("compare", models, size, options))


def _compared(models: Sequence[str], size: str, out: Path, options: Mapping[str, str | int], tell: Tell) -> list[Path]:
    parameters = {"models": str(list(models)), "budget": size, "out": str(out / "runs"), **options}
    return execute([NOTEBOOKS / COMPARISON], out / "notebooks" / "all", parameters, progress=partial(tell, "all models"))


def everything(models: Sequence[str]) -> list[str]:
    """The models by name, with all of the zoo for `zoo`. Raises StrataError when it is empty."""
    if "zoo" in models and not zoo():
        raise StrataError(f"{ZOO} holds no models: train them with `make zoo`, or name others")
    return [name for model in models for name in (zoo() if model == "zoo" else [model])]


def check(models: Sequence[str], size: str, **options: str | int) -> None:
    """Raises StrataError for what can be known to be wrong before a model is loaded."""
    budget(size)
    next(documents(str(options["corpus"])))
    for model in models:
        locate(model, None)
    if len(set(models)) < len(models):
        raise StrataError(f"a model is named twice: {', '.join(models)}")


def _check_tasks(options: Mapping[str, str | int]) -> None:
    """Reads a question of each. Raises StrataError for an unknown task, files that cannot be read, and for no questions."""
    from analysis.tasks import load_tasks  # lm_eval is not needed where no task is named

    if int(options["limit"]) < 1:
        raise StrataError(f"--limit {options['limit']} asks for no question: give at least 1")
    for name in Tasks(tasks=str(options["tasks"])).names:
        load_tasks(name, limit=1, data=Path(str(options["data"])).expanduser() if "data" in options else None)


def check_comparison(models: Sequence[str], size: str, **options: str | int) -> None:
    """As `check`, and raises StrataError for models that are not comparable."""
    if len(models) < 2:
        raise StrataError(f"{', '.join(models)} alone is no comparison: name two models or more, or use `strata report`")
    check(models, size, **options)
    groups(models, zoo_facts())


def _named(
    models: Sequence[str], compared: Sequence[str], size: str, only: Sequence[str], options: Mapping[str, str | int]
) -> tuple[list[str], list[str]]:
    """The models of a report, and those that are compared at its end. Raises StrataError as `check` and `check_comparison` do."""
    models, compared = everything(models), everything(compared or (models if len(models) > 1 and not only else ()))
    check(models, size, **options)
    if compared:
        check_comparison(compared, size, **options)
    if "tasks" in options:
        if not any("tasks" in parameters_of(NOTEBOOKS / s.notebook) for s in SECTIONS if not only or s.question in only):
            raise StrataError(f"--tasks: {', '.join(only)} shows no benchmarks; name another section, such as depth, beside it")
        _check_tasks(options)
    return models, compared


def expect(models: Sequence[str], compared: Sequence[str], size: str, out: Path, only: Sequence[str] = (), **options: str | int) -> None:
    """Prints what the sweep of each model, every section and the comparison will take on this machine."""
    models, compared = _named(models, compared, size, only, options)
    for model in models:
        print(_sweep(model, size, out, options))
    aside = _aside(compared, size, options)
    for s in choose(models, partial(_load, options=options), size, budget(size), only, aside):
        print(f"{s.model}, {s.question}: about {s.seconds / 60:.1f} minutes{'' if s.held else ', left out'}")
    if compared:
        print(f"comparison of {_names(compared)}: about {aside / 60:.1f} minutes")


def expect_comparison(models: Sequence[str], size: str, out: Path, **options: str | int) -> None:
    """Prints what the sweep of each model and the whole comparison will take on this machine."""
    models = everything(models)
    check_comparison(models, size, **options)
    if "tasks" in options:
        _check_tasks(options)
    for model in models:
        print(_sweep(model, size, out, options))
    print(f"comparison of {_names(models)}: about {_aside(models, size, options) / 60:.1f} minutes")


def _aside(compared: Sequence[str], size: str, options: Mapping[str, str | int]) -> float:
    """Seconds of the comparison."""
    return comparison_seconds(compared, partial(_load, options=options), budget(size))


def _sweep(model: str, size: str, out: Path, options: Mapping[str, str | int]) -> str:
    loaded = _load(model, options)
    asked: dict[str, Any] = {name: options[name] for name in ("corpus", "documents", "seed") if name in options}
    effects = Effects.sized(loaded, KINDS, Setting(BUDGETS[size], out / "runs", **asked))
    found = cost(loaded, effects.plan, effects.text.documents, effects.text.window)
    return (
        f"{model}: {len(effects.plan.ablations) - 1} ablations on {effects.text.documents} documents, {found.tokens:,} tokens; "
        f"{found.mixer_rows:,} rows through mixers and {found.ffn_rows:,} through ffns a document; "
        f"up to {found.memory / 2**20:,.0f} MB beside the model; about {found.seconds / 60:.1f} minutes"
    )


def _load(model: str, options: Mapping[str, str | int]) -> BlockModel:
    return load(model, device=str(options["device"]), dtype=str(options["dtype"]))


def _sections(
    models: Sequence[str], size: str, out: Path, options: Mapping[str, str | int], only: Sequence[str], compared: Sequence[str]
) -> list[Choice]:
    notebooks = [s.notebook for s in SECTIONS]
    asked = {"models": list(models), "compared": list(compared), "budget": size, "options": dict(options), "only": list(only)}

    def make() -> list[Choice]:
        return choose(models, partial(_load, options=options), size, budget(size), only, _aside(compared, size, options))

    return kept(out / "sections.json", asked | {"notebooks": notebooks}, make)


def _names(models: Sequence[str]) -> str:
    *first, last = (Path(model).name for model in models)
    return f"{', '.join(first)} and {last}" if first else last


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


def _facts(
    command: str,
    models: Sequence[str],
    size: str,
    options: Mapping[str, str | int],
    compared: Sequence[str] = (),
    only: Sequence[str] = (),
) -> dict[str, str]:
    sizes = BUDGETS[size]
    cuda = torch.cuda.is_available() and options["device"] != "cpu"
    also = ["--compare", ",".join(compared)] if compared and list(compared) != list(models) else []
    also += ["--only", ",".join(only)] if only else []
    processor = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
    limit = f", about {sizes.seconds / 60:.0f} minutes a sweep" if sizes.seconds else ""
    return {
        "Date": date.today().isoformat(),
        "Models": ", ".join(models),
        **({"Compared": ", ".join(compared)} if compared else {}),
        "Budget": f"{size}: windows of {sizes.window} tokens from up to {sizes.documents} documents{limit}",
        "Machine": f"{platform.system()} {platform.machine()}, {processor}",
        "Command": shlex.join(["strata", command, *models, *also, "--budget", size, *_words(options)]),
        "Versions": f"strata {version('llm-strata')}, torch {torch.__version__}, transformers {version('transformers')}",
    }


def _words(options: Mapping[str, str | int]) -> list[str]:
    """Of the command line: the options that are not the defaults."""
    return [word for name, value in options.items() if value != DEFAULTS.get(name) for word in (f"--{name}", str(value))]


def _slug(model: str) -> str:
    """A folder name for a model's name, hub id or path."""
    return re.sub(r"[^\w.-]+", "-", model).strip("-.") or "model"
