"""Sections of a report: which questions there are, and the one answer of one model at one size of text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, NamedTuple

from pydantic import Field

from adapters.errors import StrataError, unknown
from adapters.specs import ModelSpec
from analysis.depth import study as depth
from analysis.depth_vs_width import study as depth_vs_width
from analysis.generation import study as generation
from analysis.importance import study as importance
from analysis.methods import study as methods
from analysis.pruning import study as pruning
from analysis.quantization import study as quantization
from analysis.redundancy import study as redundancy
from analysis.runs.budgets import Takes
from analysis.runs.files import Strict, read_json
from analysis.runs.folder import Folder
from analysis.width import study as width


class Section(NamedTuple):
    """`takes` raises StrataError with the reason where there is no such section for a model."""

    question: str
    takes: Callable[[ModelSpec], Takes]

    @property
    def notebook(self) -> str:
        return f"{self.question}.ipynb"


# In the order of the report, and of what a short budget holds first.
SECTIONS = (
    Section("depth", depth.takes),
    Section("redundancy", redundancy.takes),
    Section("width", width.takes),
    Section("depth_vs_width", depth_vs_width.takes),
    Section("pruning", pruning.takes),
    Section("importance", importance.takes),
    Section("generation", generation.takes),
    Section("methods", methods.takes),
    Section("quantization", quantization.takes),
)
COMPARISON = "comparison"  # of several models, a section of no single one


@dataclass(frozen=True)
class Choice:
    """A section of one model: on how much text, what that takes, and whether the report holds it."""

    model: str
    question: str  # of SECTIONS
    documents: Annotated[int, Field(ge=0)] | None  # None: as many as the notebook chooses
    window: Annotated[int, Field(ge=2)] | None  # tokens
    seconds: Annotated[float, Field(ge=0)]  # on this machine, beside what other sections score for it
    held: bool
    impossible: str = ""  # why there is no such section for the model
    missed: dict[str, str] = field(default_factory=dict)  # benchmarks that it would show and the model cannot do, and why

    @property
    def notebook(self) -> str:
        """Its file, from the table of sections: a name that was kept is never a path. Raises StrataError when it is not there."""
        return f"{COMPARISON}.ipynb" if self.question == COMPARISON else section_of(self.question).notebook

    @property
    def size(self) -> str:
        """ "12x32": documents and tokens of each; empty where the notebook chooses."""
        return f"{self.documents}x{self.window}" if self.documents and self.window else ""


class Kept(Strict):
    """What sections.json holds."""

    request: str  # key of the report
    known: list[str]  # questions that there were
    sections: list[Choice]


def section_of(question: str) -> Section:
    """Raises StrataError when there is no such section."""
    found = {section.question: section for section in SECTIONS}
    if question not in found:
        raise unknown("section", question, found)
    return found[question]


def kept(folder: Folder, models: Sequence[str], make: Callable[[], list[Choice]]) -> list[Choice]:
    """The choice of an earlier report of the same, so that a report that was stopped goes on as it began; else a new one.

    Raises StrataError when the file names a section or a model that is not asked for.
    """
    path, known, fix = (
        folder.folder / "sections.json",
        [section.question for section in SECTIONS],
        "remove it to choose the sections again",
    )
    if path.exists():
        found = read_json(path, Kept, fix)
        if found.request == folder.key and found.known == known:
            valid = [(model, question) for model in models for question in (known if model else [COMPARISON])]
            if wrong := [c for c in found.sections if (c.model, c.question) not in valid]:
                raise StrataError(f"{path} cannot be used: {wrong[0].question!a} of {wrong[0].model!a} is not a section; {fix}")
            return found.sections
    choices = make()
    folder.write_json(path.name, {"request": folder.key, "known": known, "sections": [asdict(choice) for choice in choices]})
    return choices
