"""Broken input of every kind is refused in one line, or gives the reference's number."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.kinds import KINDS

ROOT = Path(__file__).parents[2]


def fuzz(*options: str) -> None:
    """In a process of its own, which has no threads when it forks."""
    done = subprocess.run([sys.executable, "-m", "tests.fuzz", *options], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    assert done.stdout.count(" s of CPU)") == len([word for word in options if word == "--kind"] or KINDS)


def test_some_cases_of_every_kind() -> None:
    fuzz("--cases", "25")


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_many_cases(kind: str) -> None:
    fuzz("--kind", kind, "--first", "25", "--cases", "600")
