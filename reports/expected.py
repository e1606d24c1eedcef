"""What a report will take on this machine, by the plans and the speed of the models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from adapters.base import BlockModel
from adapters.errors import visible
from adapters.memory import megabytes
from analysis.runs.files import say
from reports.planner import Candidate, Ledger, choose, compared
from reports.request import NOTEBOOKS, ReportRequest, names
from reports.sections import Choice


def expect(request: ReportRequest) -> None:
    """Prints what every section and the comparison will take, and how much text each reads."""
    for c in chosen(request):
        what = f"{visible(c.model)}, {c.question}" if c.model else f"comparison of {visible(names(request.compared))}"
        if c.impossible:
            print(f"{what}: none ({visible(c.impossible)})")
            continue
        print(f"{what}: {c.documents} documents of {c.window} tokens, about {c.seconds / 60:.1f} minutes{'' if c.held else ', skipped'}")
        for task, why in c.missed.items():
            print(f"{what}: without {task} ({visible(why)})")


def chosen(request: ReportRequest) -> list[Choice]:
    """Every section of every model, and whether the budget holds it beside the comparison, which is the last of them."""
    budget, ledger = request.budget, Ledger.of(request.budget)
    seen = {name: _seen(request, name) for name in dict.fromkeys((*request.models, *request.compared))}
    known, missed = {name: one[0] for name, one in seen.items()}, {name: one[1] for name, one in seen.items()}
    size = next((one.size for one in request.asked if one.question == "comparison"), None) or request.given
    last = compared([known[name] for name in request.compared], budget, ledger, size)
    found = choose([known[name] for name in request.models], budget, ledger, request.asked, request.given) if request.models else []
    return [replace(c, missed=_missed(request, c, missed)) for c in (*found, *([last] if last else []))]


def _seen(request: ReportRequest, name: str) -> tuple[Candidate, dict[str, str]]:
    """A model as the planner sees it, and the benchmarks that it cannot do; it is held no longer."""
    model = _loaded(request, name)
    return Candidate.of(name, model, request.budget), request.missed(model)


def _missed(request: ReportRequest, choice: Choice, missed: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Of the benchmarks that a section would show, those that one of its models cannot do; `missed`: by model."""
    shown, models = request.shown(NOTEBOOKS / choice.notebook), [choice.model] if choice.model else request.compared
    return {task: why for name in reversed(models) for task, why in missed[name].items() if task in shown}


def _loaded(request: ReportRequest, name: str) -> BlockModel:
    """A model of the report; where its weights are streamed, that is said, for plans count what is computed."""
    model = request.load(name)
    if (reader := model.reader) is not None:
        once = reader.bytes_of(range(len(model.blocks)))
        say(
            f"weights of {name} are streamed: a pass through its blocks reads {megabytes(once)} in about {once / reader.rate:,.0f} s, "
            "which is not in the minutes of its sections"
        )
    return model
