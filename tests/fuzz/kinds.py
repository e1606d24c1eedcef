"""All kinds of input that are fuzzed: a module of this folder each. They import all that Strata imports, which takes seconds."""

from __future__ import annotations

import importlib

from tests.fuzz.core import Kind

KINDS = ("configs", "weights", "pickles", "tokens", "gguf", "corpora", "folders", "runs", "tasks")


def kind(name: str) -> Kind:
    return importlib.import_module(f"tests.fuzz.{name}").KIND
