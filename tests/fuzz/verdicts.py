"""How a case can end."""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

ALLOWED = {  # verdicts on a mutant
    "refused": "one line, exit code 2",
    "right": "the reference's number",
    "as before": "the number of the input before it was mutated, where the reference does not read it any more",
    "documented": "another number, where the reference does not read it, for a reason that is documented",
}
FAULTS = {
    "wrong": "another number than the reference's",
    "traceback": "an error that is no StrataError",
    "lines": "a StrataError of several lines, with characters that act on a terminal, or without end",
    "signal": "a crash of the interpreter",
    "time": "no end within the limits",
}
LONGEST = 1000  # characters of a message
ACTING = ("Cc", "Cf", "Cs", "Zl", "Zp")  # categories of characters


class Wrong(Exception):
    """Another number than the reference's."""


class Unread(Exception):
    """The reference does not read this input."""


class Outcome(NamedTuple):
    verdict: str
    said: str  # the message, the traceback, the difference
    mutation: str
    seconds: float

    @property
    def is_fault(self) -> bool:
        return self.verdict not in ALLOWED


def is_one_line(message: str) -> bool:
    """Whether a terminal shows it as one line, whatever it quotes."""
    return 0 < len(message) <= LONGEST and not any(unicodedata.category(char) in ACTING for char in message)
