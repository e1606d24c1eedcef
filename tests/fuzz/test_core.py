"""The fuzzer finds what it is for: each fault is planted once."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from adapters import StrataError
from tests.fuzz.core import Fuzzer, Kind, Limits
from tests.fuzz.mutations import json_file, raw, shuffled_lines, tree
from tests.fuzz.verdicts import Wrong, is_one_line

LIMITS = Limits(memory=1 << 30)
SHORT = {"no end": Limits(cpu=1), "waiting": Limits(wall=2.0)}  # one each: on a busy machine either may come first


def _raises(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def _runs() -> None:
    while True:
        pass


PLANTED: dict[str, tuple[Callable[[], object], str, str]] = {  # what reading does, the verdict, and what is said
    "nothing": (lambda: None, "right", ""),
    "a refusal": (_raises(StrataError("no\nlines")), "refused", r"no\nlines"),
    "an error": (_raises(KeyError("x")), "traceback", "KeyError: 'x'"),
    "no Exception": (_raises(KeyboardInterrupt()), "traceback", "KeyboardInterrupt"),
    "an exit": (lambda: os._exit(0), "signal", "ended without a word"),
    "a wrong number": (_raises(Wrong("2 for 1")), "wrong", "2 for 1"),
    "a crash": (lambda: os.abort(), "signal", "SIGABRT"),
    "all memory": (lambda: bytearray(1 << 32), "traceback", "MemoryError"),
    "no end": (_runs, "time", "cpu=1"),
    "waiting": (lambda: time.sleep(100), "time", "wall=2.0"),
}


def _judged(act: Callable[[], object]) -> Callable[[Path, None], tuple[str, str]]:
    """Reads what is mutated as `act` does, and all else well."""

    def judge(folder: Path, base: None) -> tuple[str, str]:
        if (folder / "a").read_text() != "whole":
            act()
        return "right", ""

    return judge


def _made(root: Path) -> dict[str, None]:
    (root / "one").mkdir()
    (root / "one" / "a").write_text("whole")
    return {"one": None}


def _broken(rng: Random, folder: Path, base: None) -> str:
    (folder / "a").write_text(str(number := rng.random()))
    return f"a = {number}\n"


@pytest.mark.parametrize("name", PLANTED)
def test_what_happens_is_told_apart(name: str, tmp_path: Path) -> None:
    act, verdict, said = PLANTED[name]
    found = Fuzzer("planted", Kind(_made, _broken, _judged(act)), tmp_path, SHORT.get(name, LIMITS)).run(0)
    assert (found.verdict, said in found.said) == (verdict, True), found
    assert found.mutation.startswith("one: a = 0.")
    assert found.is_fault == (verdict not in ("right", "refused"))


def test_a_case_is_the_same_every_time_and_can_be_kept(tmp_path: Path) -> None:
    fuzzer = Fuzzer("planted", Kind(_made, _broken, _judged(lambda: None)), tmp_path, LIMITS)
    first, again, another = fuzzer.run(7), fuzzer.run(7, tmp_path / "kept"), fuzzer.run(8)
    assert first.mutation == again.mutation != another.mutation
    assert (tmp_path / "kept" / "a").read_text() in first.mutation
    assert (tmp_path / "one" / "a").read_text() == "whole"


def test_what_is_not_right_before_it_is_mutated_is_no_base(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="planted: one is as before"):
        Fuzzer("planted", Kind(_made, _broken, lambda folder, base: ("as before", "")), tmp_path, LIMITS)


@pytest.mark.parametrize("message", ["a\nb", "a\x1b[2J", "", "x" * 1001, "half \ud800"])
def test_what_is_no_line(message: str) -> None:
    assert not is_one_line(message)
    assert is_one_line(str(StrataError(message or "x")))


def test_mutations_change_something_and_say_it(tmp_path: Path) -> None:
    """Of a hundred of each, nearly all: some put back what was there."""
    data, path = {"a": 1, "b": [1.5, "x", {"c": None}], "d": {"e": True}}, tmp_path / "a.json"
    lines = b"a\nb\nc\nd"
    for change in (lambda rng: raw(rng, lines)[0] != lines, lambda rng: shuffled_lines(rng, lines)[0] != lines, _changes(path, data)):
        assert sum(change(Random(seed)) for seed in range(100)) > 70
    assert len({tree(Random(seed), {"a": [1, 2]}, ["k"])[1] for seed in range(100)}) > 30


def _changes(path: Path, data: dict) -> Callable[[Random], bool]:
    def change(rng: Random) -> bool:
        path.write_text(json.dumps(data))
        assert json_file(rng, path, ["k"])
        return path.read_bytes() != json.dumps(data).encode()

    return change
