"""What a report will take on this machine, by the plans and the speed of the models."""

from __future__ import annotations

from typing import Any

from adapters.errors import visible
from analysis.depth.study import KINDS
from analysis.display.format import count
from analysis.engine.cost import cost
from analysis.runs.settings import RunConfig
from analysis.runs.single_removals import SingleRemovals
from reports.request import ReportRequest, names
from reports.sections import Choice, choose, comparison_seconds


def expect(request: ReportRequest) -> None:
    """Prints what the sweep of each model, every section and the comparison will take."""
    for model in request.models or request.compared:
        print(visible(_sweep(model, request)))
    for s in chosen(request):
        print(f"{visible(s.model)}, {s.question}: about {s.seconds / 60:.1f} minutes{'' if s.held else ', skipped'}")
    if request.compared:
        print(f"comparison of {visible(names(request.compared))}: about {_aside(request) / 60:.1f} minutes")


def chosen(request: ReportRequest) -> list[Choice]:
    """Every section that is for one of the models, and whether the budget holds it beside the comparison."""
    return choose(request.models, request.load, request.budget, request.only, _aside(request))


def _aside(request: ReportRequest) -> float:
    """Seconds of the comparison."""
    return comparison_seconds(request.compared, request.load, request.budget)


def _sweep(model: str, request: ReportRequest) -> str:
    loaded = request.load(model)
    text: dict[str, Any] = {name: request.options[name] for name in ("corpus", "documents", "seed") if name in request.options}
    effects = SingleRemovals.sized(loaded, KINDS, RunConfig(request.budget, request.out / "runs", **text))
    found = cost(loaded, effects.plan, effects.text.documents, effects.text.window)
    return (
        f"{model}: {len(effects.plan.ablations) - 1} ablations on {count(effects.text.documents, 'document')}, {found.tokens:,} tokens; "
        f"{found.mixer_rows:,} passes through mixers and {found.ffn_rows:,} through ffns per document; "
        f"up to {found.memory / 2**20:,.0f} MB beside the model; about {found.seconds / 60:.1f} minutes"
    )
