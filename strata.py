"""Strata from Python: measure what a language model loses without some of its parts.

>>> import strata
>>> model = strata.load("zoo-llama-0")
>>> found = strata.sweep(model, strata.single_ablations(model, "blocks"), strata.Text(documents=12, window=48))

Names are imported when they are first asked for. docs/python.md has a page of examples.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adapters.ablation import Ablation
    from adapters.errors import StrataError
    from adapters.registry import load, register_family
    from analysis.data.batches import Text
    from analysis.methods.table import register_method
    from analysis.metrics.metrics import register_metric
    from analysis.removal.orders import register_order
    from analysis.runs.read_run import read_run, read_runs
    from analysis.verbs import compare, difference, evaluate, importance, prune, removal_order, remove, single_ablations, sweep

    __version__: str

__all__ = [
    "Ablation",
    "StrataError",
    "Text",
    "compare",
    "difference",
    "evaluate",
    "importance",
    "load",
    "prune",
    "read_run",
    "read_runs",
    "register_family",
    "register_method",
    "register_metric",
    "register_order",
    "removal_order",
    "remove",
    "single_ablations",
    "sweep",
]
MODULES = {
    "Ablation": "adapters.ablation",
    "StrataError": "adapters.errors",
    **dict.fromkeys(("load", "register_family"), "adapters.registry"),
    "Text": "analysis.data.batches",
    "register_method": "analysis.methods.table",
    "register_metric": "analysis.metrics.metrics",
    "register_order": "analysis.removal.orders",
    **dict.fromkeys(("read_run", "read_runs"), "analysis.runs.read_run"),
    **dict.fromkeys(
        ("compare", "difference", "evaluate", "importance", "prune", "remove", "removal_order", "single_ablations", "sweep"),
        "analysis.verbs",
    ),
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("llm-strata")
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__", "__doc__", "__name__"])
