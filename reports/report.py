"""The report: every notebook on every model, as one PDF and one HTML file."""

from __future__ import annotations

import platform
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
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
from adapters.registry import locate
from analysis.budgets import BUDGETS, budget
from analysis.corpora import documents
from reports.convert import convert
from reports.execute import Progress, execute

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SECTIONS = ("depth.ipynb",)  # in the order of the report


def make(models: Sequence[str], size: str, out: Path, **options: str) -> tuple[Path, Path]:
    """Writes out/report.pdf and out/report.html. Runs are kept in out/runs, executed notebooks in out/notebooks.

    Raises StrataError on bad input, before anything is written where that can be known.
    """
    budget(size)
    next(documents(options["corpus"]))
    for model in models:
        locate(model, None)
    if len(set(models)) < len(models):
        raise StrataError(f"a model is named twice: {', '.join(models)}")
    executed = []
    with _progress() as tell:
        for model in models:
            parameters = {"model": model, "budget": size, "out": str(out / "runs"), **options}
            folder = out / "notebooks" / _slug(model)
            executed += execute([NOTEBOOKS / name for name in SECTIONS], folder, parameters, progress=partial(tell, model))
    title = f"Redundancy of {' and '.join(Path(m).name for m in models)}"
    return convert(executed, out, title=title, subtitle="Measured by Strata", facts=_facts(models, size, options["device"]))


@contextmanager
def _progress() -> Iterator[Callable[[str, Progress], None]]:
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


def _facts(models: Sequence[str], size: str, device: str) -> dict[str, str]:
    sizes = BUDGETS[size]
    cuda = torch.cuda.is_available() and device != "cpu"
    processor = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
    limit = f", about {sizes.seconds / 60:.0f} minutes a sweep" if sizes.seconds else ""
    return {
        "Date": date.today().isoformat(),
        "Models": ", ".join(models),
        "Budget": f"{size}: windows of {sizes.window} tokens from up to {sizes.documents} documents{limit}",
        "Machine": f"{platform.system()} {platform.machine()}, {processor}",
        "Command": f"strata report {shlex.join(models)} --budget {size}",
        "Versions": f"strata {version('llm-strata')}, torch {torch.__version__}, transformers {version('transformers')}",
    }


def _slug(model: str) -> str:
    """A folder name for a model's name, hub id or path."""
    return re.sub(r"[^\w.-]+", "-", model).strip("-.") or "model"
