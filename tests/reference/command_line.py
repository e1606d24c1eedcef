"""What a command does, as its user sees it. The fixture `strata` runs one in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


Strata = Callable[..., Done]  # of the command's words; what it finds in its environment by name
