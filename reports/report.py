"""The report: every notebook on every model, as one PDF and one HTML file."""

from __future__ import annotations

import platform
import re
import shlex
from collections.abc import Sequence
from datetime import date
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
    console = Console(stderr=True, highlight=False)
    with Bar(console=console, disable=not console.is_terminal) as bar:
        for model in models:
            folder = out / "notebooks" / _slug(model)
            task = bar.add_task(escape(model), total=None)

            def tell(at: Progress, model: str = model, task: object = task) -> None:
                note = at.note or "starts"
                line = f"{escape(model)}, {at.notebook.stem}: {escape(note)}"
                bar.update(task, description=line, completed=at.cell, total=at.n_cells)  # type: ignore[arg-type]

            parameters = {"model": model, "budget": size, "out": str(out / "runs"), **options}
            executed += execute([NOTEBOOKS / name for name in SECTIONS], folder, parameters, progress=tell)
    title = f"Redundancy of {' and '.join(Path(m).name for m in models)}"
    return convert(executed, out, title=title, subtitle="Measured by Strata", facts=_facts(models, size, options["device"]))


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
