"""Two functions have one fingerprint when they compute the same, and another one when anything that decides it differs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from adapters import StrataError
from analysis.runs.fingerprint import fingerprint, name_of

BASE = """
import torch
POWER = 2
TABLE = {"a": [1.0, 2.0], "b": torch.ones(3)}
def helper(x): return x ** POWER
def metric(step, factor=1): return helper(step) * factor * TABLE["a"][0] + torch.cosine_similarity(step, step)
"""


def made(source: str = BASE) -> Callable:
    names: dict = {"__name__": "somebody"}
    exec(source, names)
    return names["metric"]


def test_the_same_code_has_the_same_fingerprint() -> None:
    assert fingerprint(made()) == fingerprint(made())
    assert fingerprint(made()).startswith("somebody.metric ")
    assert fingerprint(made("# a comment\n" + BASE)) == fingerprint(made())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("POWER = 2", "POWER = 3"),
        ("return x ** POWER", "return x + POWER"),
        ("factor=1", "factor=2"),
        ("[1.0, 2.0]", "[1.0, 2.5]"),
        ("torch.ones(3)", "torch.zeros(3)"),
        ("cosine_similarity(step, step)", "cosine_similarity(step, step + 1)"),
        ("helper(step) * factor", "(lambda x: x - 1)(helper(step)) * factor"),
        ("__name__", "__name__"),
    ],
)
def test_what_decides_the_result_is_part_of_it(before: str, after: str) -> None:
    assert (fingerprint(made(BASE.replace(before, after))) == fingerprint(made())) == (before == after)


def test_unused_globals_and_attributes_of_their_name_are_not() -> None:
    unused = "norm = object()\n" + BASE.replace("helper(step)", "helper(step).norm()")
    assert fingerprint(made(unused)) == fingerprint(made(unused.replace("norm = object()", "norm = 3")))


def test_closures_partials_methods_and_objects() -> None:
    def scaled(k: object) -> Callable:
        return lambda step: step * k

    class Scaled:
        def __init__(self, k: float) -> None:
            self.k = k

        def __call__(self, step: float) -> float:
            return step * self.k

        def method(self, step: float) -> float:
            return step * self.k

    for make in (scaled, Scaled, lambda k: Scaled(k).method, lambda k: partial(made(), factor=k)):
        assert fingerprint(make(1)) == fingerprint(make(1))
        assert fingerprint(make(1)) != fingerprint(make(2))
    for one, other in (
        (np.ones(2), np.zeros(2)),
        ({1, 2}, {1, 3}),
        (torch.tensor(1.5), torch.tensor(1.25)),
        (torch.float32, torch.float64),
    ):
        assert fingerprint(scaled(one)) != fingerprint(scaled(other))


@pytest.mark.parametrize("how", ["from {} import scale\ndef metric(x): return scale(x)", "import {0}\ndef metric(x): return {0}.scale(x)"])
def test_a_file_beside_a_script_is_part_of_it(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that it uses in turn: an edit makes another function, whatever package it lies in."""
    monkeypatch.syspath_prepend(tmp_path)
    found = set()
    for own, deeper in (("x * 2", 1), ("x * 3", 1), ("x * 2", 4), ("x * 2", 1)):
        (tmp_path / "deeper.py").write_text(f"def power(x): return x ** {deeper}\n")
        (tmp_path / "beside.py").write_text(f"from deeper import power\ndef scale(x): return power({own})\n")
        for name in ("deeper", "beside"):
            sys.modules.pop(name, None)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        found.add(fingerprint(made(how.format("beside"))))
    assert len(found) == 3


CLASS = """
from functools import lru_cache
class Above:
    def above(self): return 1
class Scaled(Above):
    @staticmethod
    def still(x): return x * 2
    @property
    def shown(self): return 3
    def __call__(self, x): return self.still(x) * self.shown * self.above() * kept(x)
@lru_cache
def kept(x): return x + 5
metric = Scaled()
"""


@pytest.mark.parametrize(("before", "after"), [("x * 2", "x * 7"), ("return 3", "return 7"), ("return 1", "return 7"), ("x + 5", "x + 7")])
def test_all_of_a_class_and_what_is_cached_is_part_of_it(before: str, after: str) -> None:
    assert fingerprint(made(CLASS)) == fingerprint(made(CLASS))
    assert fingerprint(made(CLASS)) != fingerprint(made(CLASS.replace(before, after)))


def test_functions_that_call_themselves_end() -> None:
    assert fingerprint(made("def metric(x): return metric(x - 1) if x else 0"))


def test_what_has_no_hash_is_refused() -> None:
    with pytest.raises(StrataError, match=r"metric uses a value of the type object, which has no hash.*register it with a title"):
        fingerprint(made("THING = object()\ndef metric(x): return THING"))


def test_names() -> None:
    assert name_of(made()) == "metric"
    assert name_of(partial(made(), factor=3)) == "metric"
    assert name_of(lambda step: step) == "lambda"
