"""What a report will take on this machine, by the plans and the speed of the models."""

from __future__ import annotations

from adapters.base import BlockModel
from adapters.errors import visible
from adapters.memory import megabytes
from analysis.runs.files import say
from reports.planner import Candidate, Ledger, choose, compared
from reports.request import ReportRequest, names
from reports.sections import Choice


def expect(request: ReportRequest) -> None:
    """Prints what every section and the comparison will take, and how much text each reads."""
    for c in chosen(request):
        what = f"{visible(c.model)}, {c.question}" if c.model else f"comparison of {visible(names(request.compared))}"
        if c.impossible:
            print(f"{what}: none ({visible(c.impossible)})")
            continue
        print(f"{what}: {c.documents} documents of {c.window} tokens, about {c.seconds / 60:.1f} minutes{'' if c.held else ', skipped'}")


def chosen(request: ReportRequest) -> list[Choice]:
    """Every section of every model, and whether the budget holds it beside the comparison, which is the last of them."""
    budget, ledger = request.budget, Ledger.of(request.budget)
    known = {name: Candidate.of(name, _loaded(request, name), budget) for name in dict.fromkeys((*request.models, *request.compared))}
    size = next((one.size for one in request.asked if one.question == "comparison"), None) or request.given
    last = compared([known[name] for name in request.compared], budget, ledger, size)
    found = choose([known[name] for name in request.models], budget, ledger, request.asked, request.given) if request.models else []
    return [*found, *([last] if last else [])]


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
