"""The report: every notebook on every model, as one PDF and one HTML file."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from adapters.errors import unwritable
from analysis.runs.folder import Folder
from reports.collect import collect
from reports.convert import convert
from reports.execute import execute
from reports.expected import chosen
from reports.progress import progress
from reports.request import COMPARISON, NOTEBOOKS, ReportRequest
from reports.sections import kept, skipped

ROOM = 64 << 20  # bytes that notebooks, pictures and the converters' own files may take


def make(request: ReportRequest) -> tuple[Path, Path]:
    """Writes out/report.pdf and out/report.html: the sections of the models that the budget holds, and the comparison.

    Runs are kept in out/runs, executed notebooks in out/notebooks, and what these show also in out/figures and out/tables. Raises
    StrataError when there is no room for the report, and when the folder is that of another one.
    """
    owner = Folder(request.out, request.identity, "report", "request", made="notebooks")
    about: dict[Path, str] = {}
    with _room(request.out), owner.writing({}), progress() as tell:
        folder = request.out / "notebooks"
        sections = kept(owner, request.models, partial(chosen, request)) if request.models else []
        for model in request.models:
            notebooks = [NOTEBOOKS / s.notebook for s in sections if s.model == model and s.held]
            executed = execute(notebooks, folder / _slug(model), {"model": model, **request.parameters}, progress=partial(tell, model))
            about |= dict.fromkeys(executed, Path(model).name if len(request.models) > 1 else "")
        if request.compared:
            parameters = {"models": str(list(request.compared)), **request.parameters}
            about |= dict.fromkeys(execute([COMPARISON], folder / "all", parameters, progress=partial(tell, "all models")), "")
        collect(list(about), request.out / "runs", request.out)
        ending = skipped(sections, request.out, request.words)
        return convert(
            list(about), request.out, title=request.title, subtitle="Measured by Strata", facts=request.facts, about=about, ending=ending
        )


@contextmanager
def _room(out: Path) -> Iterator[None]:
    """Turns a folder that cannot be written to, or a full disk, into a StrataError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(out).free) < ROOM:
            raise OSError(errno.ENOSPC, f"{free / 2**20:.0f} MB are free, a report takes up to {ROOM >> 20}")
        yield
    except OSError as error:
        raise unwritable(out, error) from error


def _slug(model: str) -> str:
    """A folder name for a model's name, hub id or path."""
    return re.sub(r"[^\w.-]+", "-", model).strip("-.") or "model"
