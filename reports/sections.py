"""Sections of a report: which notebooks there are, what each takes, and which of them a short budget holds."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field

from adapters.base import BlockModel
from adapters.errors import StrataError, unknown
from adapters.specs import ModelSpec
from analysis.depth.study import KINDS
from analysis.display.format import escape, minutes
from analysis.engine.ablations import single_ablations
from analysis.engine.cost import speed
from analysis.engine.plan import plan
from analysis.quantization.gptq import GROUPS
from analysis.runs.budgets import Budget, fit
from analysis.runs.files import Strict, read_json
from analysis.runs.folder import Folder
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI

OVERHEAD = 15.0  # seconds that a notebook takes beside its passes: a kernel, imports, resampling, figures

Load = Callable[[str], BlockModel]


def _passes(spec: ModelSpec, kinds: Sequence[str] = ()) -> int:
    return plan(spec, single_ablations(spec, kinds) if kinds else []).flops_per_token


def _width(spec: ModelSpec) -> int | None:
    return _passes(spec, ["heads"]) + 30 * _passes(spec) if spec.has_heads else None


def _quantization(spec: ModelSpec) -> int | None:
    """Models of llmcompressor, whose rows fall into groups of weights."""
    widths = {w for b in spec.blocks for w in (spec.d_model, b.d_ffn, (b.n_heads or 0) * (b.head_dim or 0))}
    return 80 * _passes(spec) if spec.family == "llama" and not spec.quantised and all(w % min(GROUPS) == 0 for w in widths) else None


class Section(NamedTuple):
    """`work`: about the FLOPs for each token; None: it is not for such a model."""

    notebook: str
    work: Callable[[ModelSpec], float | None]
    as_depth: bool = False  # reads the documents of depth's sweep, else about as many as intervals need

    @property
    def question(self) -> str:
        return self.notebook.removesuffix(".ipynb")


# In the order of the report, and of what a short budget holds first.
SECTIONS = (
    Section("depth.ipynb", lambda spec: _passes(spec, KINDS) + _passes(spec), as_depth=True),
    Section(
        "importance.ipynb", lambda spec: 25 * _passes(spec), as_depth=True
    ),  # metrics and gradients of some texts; depth's sweep is there
    Section("width.ipynb", _width),
    Section("depth_vs_width.ipynb", lambda spec: _passes(spec, KINDS) + (_width(spec) or 0) + 30 * _passes(spec)),
    Section("pruning.ipynb", lambda spec: 8 * len(spec.blocks) * _passes(spec)),
    Section("methods.ipynb", lambda spec: _passes(spec, ["blocks"]) + 230 * _passes(spec)),  # four sizes of eight methods
    Section("quantization.ipynb", _quantization),
)


@dataclass(frozen=True)
class Choice:
    """A section of one model, and whether the budget holds it."""

    model: str
    question: str  # of SECTIONS
    seconds: Annotated[float, Field(ge=0)]  # that it takes on this machine
    held: bool

    @property
    def notebook(self) -> str:
        """Its file, from the table of sections: a name that was kept is never a path. Raises StrataError when it is not there."""
        return section_of(self.question).notebook


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


def choose(models: Sequence[str], load: Load, budget: Budget, only: Sequence[str] = (), aside: float = 0.0) -> list[Choice]:
    """Every section that is for a model, by model; held are the first and those that fit into what is allowed, section by section.

    `aside`: seconds that are spent on something else. With `only` those sections, all held.
    """
    takes = {model: _seconds(load(model), budget) for model in models}
    if only:
        return [Choice(m, question, seconds, True) for m in models for question, seconds in takes[m].items() if question in only]
    left = (budget.report or float("inf")) - aside
    held = set()
    for section in SECTIONS:
        for model in models:
            seconds = takes[model].get(section.question, float("inf"))
            if seconds <= left or section is SECTIONS[0]:  # also on a busy machine
                left -= seconds
                held.add((model, section.question))
    return [Choice(m, question, seconds, (m, question) in held) for m in models for question, seconds in takes[m].items()]


def _seconds(model: BlockModel, budget: Budget) -> dict[str, float]:
    budget = budget.within(model)
    few, rate = budget.documents if budget.seconds is None else MIN_DOCUMENTS_FOR_CI, speed(model, budget.window)
    of_depth = fit(model, plan(model.spec, single_ablations(model.spec, KINDS)), budget)
    work = {section: section.work(model.spec) for section in SECTIONS}
    return {
        section.question: OVERHEAD + flops * (of_depth if section.as_depth else few) * budget.window / rate
        for section, flops in work.items()
        if flops is not None
    }


class Reader(NamedTuple):
    """What a comparison takes of one model: how many documents its share of the budget holds, and seconds for each."""

    documents: int
    sweeps: float
    heads: float  # infinite for a model without heads


def comparison_seconds(models: Sequence[str], load: Load, budget: Budget) -> float:
    """What a comparison of the models takes on this machine, heads among it where a model's share of the budget holds them."""
    if not models:
        return 0.0
    share = replace(budget, seconds=budget.seconds and budget.seconds / len(models))
    readers = [_reader(load(model), share) for model in models]
    n = min(reader.documents for reader in readers)
    heads = sum(n * r.heads for r in readers if r.heads < float("inf") and n * r.heads <= (share.seconds or float("inf")))
    return OVERHEAD + heads + n * sum(reader.sweeps for reader in readers)


def _reader(model: BlockModel, budget: Budget) -> Reader:
    budget, spec = budget.within(model), model.spec
    each = budget.window / speed(model, budget.window)
    singly = _passes(spec, KINDS) + 2 * _passes(spec, ["blocks"]) + _passes(spec)  # their order and their path, and Block Influence
    heads = _passes(spec, ["heads"]) * each if spec.has_heads else float("inf")
    return Reader(fit(model, plan(spec, single_ablations(spec, KINDS)), budget), singly * each, heads)


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
            valid = [(model, question) for model in models for question in known]
            if wrong := [c for c in found.sections if (c.model, c.question) not in valid]:
                raise StrataError(f"{path} cannot be used: {wrong[0].question!a} of {wrong[0].model!a} is not a section; {fix}")
            return found.sections
    choices = make()
    folder.write_json(path.name, {"request": folder.key, "known": known, "sections": [asdict(choice) for choice in choices]})
    return choices


def skipped(choices: Sequence[Choice], out: Path, options: Sequence[str] = ()) -> str:
    """What is not in the report: a table (Markdown) with what it takes, and the commands; empty when all is there.

    `options`: words of the command line that the report was made with, besides models, budget and folder.
    """
    missing: dict[str, list[Choice]] = {}
    for choice in choices:
        if not choice.held:
            missing.setdefault(choice.model, []).append(choice)
    if not missing:
        return ""
    rows = [f"| {escape(model)} | {', '.join(f'{c.question} ({minutes(c.seconds)})' for c in left)} |" for model, left in missing.items()]
    head = "| model | skipped, and about how long it takes on this machine |\n| --- | --- |\n"
    said = (
        "The sections below do not fit into this budget. These commands run them, with enough text for intervals; more text resolves more."
    )
    commands = "\n".join("    " + " ".join(command(left, out, options).split()) for left in missing.values())
    return f"# Skipped\n\n{said}\n\n{head}" + "\n".join(rows) + f"\n\n{commands}\n"


def command(choices: Sequence[Choice], out: Path, options: Sequence[str] = ()) -> str:
    """What makes sections of one model."""
    model, only = choices[0].model, ",".join(c.question for c in choices)
    target = out.with_name(f"{out.name}-{Path(model).name}")
    some = [] if "--documents" in options else ["--documents", str(MIN_DOCUMENTS_FOR_CI)]
    return shlex.join(["strata", "report", model, "--only", only, *some, *options, "--out", str(target)])
