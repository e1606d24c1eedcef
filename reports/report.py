"""The report: every notebook on every model, as one PDF and one HTML file."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import nbformat

from adapters.errors import unwritable
from analysis.display.format import escape, listed, minutes
from analysis.runs.folder import Folder
from reports.collect import collect, write
from reports.convert import convert
from reports.execute import OwnKernel, execute, one_kernel
from reports.expected import chosen
from reports.first_page import Found, front
from reports.pieces import Chapter
from reports.planner import COMPARISON, words
from reports.progress import ProgressCallback, progress
from reports.request import NOTEBOOKS, ReportRequest
from reports.sections import SECTIONS, Choice, kept

FIRST = "redundancy"  # the question that a report begins with
ROOM = 64 << 20  # bytes that notebooks, pictures and the converters' own files may take


def make(request: ReportRequest) -> tuple[Path, Path]:
    """Writes out/report.pdf and out/report.html: the answer, then question by question the sections of the models, and the comparison.

    Runs are kept in out/runs, executed notebooks in out/notebooks, and what these show also in out/figures and out/tables. Raises
    StrataError when there is no room for the report, and when the folder is that of another one.
    """
    owner = Folder(request.out, request.identity, "report", "request", made="notebooks")
    with _room(request.out), owner.writing({}), progress() as tell, one_kernel() as kernel:
        choices = kept(owner, [*request.models, *([""] if request.compared else [])], partial(chosen, request))
        chapters = []
        for question in [*sorted({c.question: c for c in choices if c.model}, key=_place), *([COMPARISON] if request.compared else [])]:
            mine = [c for c in choices if c.question == question]
            executed = [(Path(c.model).name, _executed(request, c, kernel, tell)) for c in mine if c.held]
            chapters.append(Chapter(executed, _title(question), _notes(mine, request)))
        notebooks = [path for chapter in chapters for _, path in chapter.notebooks]
        collect(notebooks, request.out / "runs", request.out)
        found = Found.of(notebooks)
        facts = request.facts(request.exactly(words(choices, request.models)))
        left = [escape(Path(c.model).name) for c in choices if c.question == FIRST and c.model and not c.held and not c.impossible]
        asked = f"{request.question} {listed(left)}: not within this budget, see the first chapter." if left else request.question
        page = front(asked, found)
        write(page.files, request.out)
        return convert(chapters, request.out, title=request.title, facts=facts, front=page, explored=found.explored)


def _place(question: str) -> int:
    """In the report, which begins with the question that it is about."""
    return -1 if question == FIRST else [section.question for section in SECTIONS].index(question)


def _executed(request: ReportRequest, choice: Choice, kernel: OwnKernel, tell: ProgressCallback) -> Path:
    """The executed notebook of a section."""
    about = {"model": choice.model} if choice.model else {"models": str(list(request.compared))}
    size = {name: value for name, value in (("documents", choice.documents), ("window", choice.window)) if value}
    place = request.out / "notebooks" / (_slug(choice.model) if choice.model else "all")
    given = {**request.parameters_for(choice), **about, **size}
    return execute([NOTEBOOKS / choice.notebook], place, given, progress=partial(tell, choice.model or "all models"), kernel=kernel)[0]


def _title(question: str) -> str:
    """The first line of its notebook."""
    first = nbformat.read(NOTEBOOKS / f"{question}.ipynb", as_version=4).cells[0].source
    return first.partition("\n")[0].removeprefix("# ")


def _notes(choices: Sequence[Choice], request: ReportRequest) -> str:
    """A line for each model that a question has no answer for, and for each benchmark that it cannot do, with the reason (Markdown)."""
    said = []
    for c in choices:
        if c.impossible:
            said.append(f"*Not for {escape(Path(c.model).name)}: {escape(c.impossible)}.*")
        elif not c.held:
            said.append(f"*Not within this budget for {escape(Path(c.model).name)} (about {minutes(c.seconds)}): `{request.one(c)}`*")
        else:
            said += [f"*Without {escape(task)}: {escape(why)}.*" for task, why in c.missed.items()]
    return "\n\n".join(said)


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
