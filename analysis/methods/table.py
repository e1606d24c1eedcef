"""Every method by its name, and how others are added."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from adapters.errors import StrataError
from adapters.plugins import Table
from analysis.methods.laco import LACO, LACO_EQ1
from analysis.methods.linear import LINEAR
from analysis.methods.llm_pruner import LLM_PRUNER, LLM_PRUNER_PUBLISHED
from analysis.methods.method import Method
from analysis.methods.removal import ONE_SHOT, SHORTGPT
from analysis.methods.slicegpt import SLICEGPT


def _versioned(method: Method, title: str, version: str) -> Method:
    return replace(method, title=title, about={**method.about, "title": title, "version": version})


def _read(found: Any, title: str, version: str) -> Method:
    """A method from what an entry point leads to."""
    if not isinstance(found, Method):
        raise StrataError(f"it is {type(found).__name__}, and no Method of analysis.methods.method")
    return found if "version" in found.about else _versioned(found, found.title, version)


METHODS = Table(
    "method",
    "strata.methods",
    {
        "shortgpt": SHORTGPT,
        "one_shot": ONE_SHOT,
        "laco": LACO,
        "laco_eq1": LACO_EQ1,
        "linear": LINEAR,
        "slicegpt": SLICEGPT,
        "llm_pruner": LLM_PRUNER,
        "llm_pruner_published": LLM_PRUNER_PUBLISHED,
    },
    _read,
)


def register_method(name: str, method: Method, *, title: str = "", version: str = "1") -> None:
    """Adds a pruning method, whose title and version runs note. Raises StrataError on a name that is taken."""
    METHODS.register(name, _versioned(method, title or method.title, version))
