"""What a report will take on this machine, by the plans and the speed of the models."""

from __future__ import annotations

from adapters.errors import visible
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
    known = {name: Candidate.of(name, request.load(name), budget) for name in dict.fromkeys((*request.models, *request.compared))}
    size = next((one.size for one in request.asked if one.question == "comparison"), None) or request.given
    last = compared([known[name] for name in request.compared], budget, ledger, size)
    found = choose([known[name] for name in request.models], budget, ledger, request.asked, request.given) if request.models else []
    return [*found, *([last] if last else [])]
