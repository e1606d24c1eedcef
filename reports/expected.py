"""What a report will take on this machine, by the plans and the speed of the models."""

from __future__ import annotations

from typing import Any

from analysis.depth.study import KINDS
from analysis.engine.cost import cost
from analysis.runs.settings import Setting
from analysis.runs.single_removals import Effects
from reports.asked import Asked, names
from reports.sections import Choice, choose, comparison_seconds


def expect(asked: Asked) -> None:
    """Prints what the sweep of each model, every section and the comparison will take."""
    for model in asked.models or asked.compared:
        print(_sweep(model, asked))
    for s in chosen(asked):
        print(f"{s.model}, {s.question}: about {s.seconds / 60:.1f} minutes{'' if s.held else ', left out'}")
    if asked.compared:
        print(f"comparison of {names(asked.compared)}: about {_aside(asked) / 60:.1f} minutes")


def chosen(asked: Asked) -> list[Choice]:
    """Every section that is for one of the models, and whether the budget holds it beside the comparison."""
    return choose(asked.models, asked.load, asked.budget, asked.only, _aside(asked))


def _aside(asked: Asked) -> float:
    """Seconds of the comparison."""
    return comparison_seconds(asked.compared, asked.load, asked.budget)


def _sweep(model: str, asked: Asked) -> str:
    loaded = asked.load(model)
    text: dict[str, Any] = {name: asked.options[name] for name in ("corpus", "documents", "seed") if name in asked.options}
    effects = Effects.sized(loaded, KINDS, Setting(asked.budget, asked.out / "runs", **text))
    found = cost(loaded, effects.plan, effects.text.documents, effects.text.window)
    return (
        f"{model}: {len(effects.plan.ablations) - 1} ablations on {effects.text.documents} documents, {found.tokens:,} tokens; "
        f"{found.mixer_rows:,} rows through mixers and {found.ffn_rows:,} through ffns a document; "
        f"up to {found.memory / 2**20:,.0f} MB beside the model; about {found.seconds / 60:.1f} minutes"
    )
