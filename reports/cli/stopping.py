"""Ctrl-C, whenever it comes: one line that says what is kept and how to go on."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

CODE = 130  # of a program that SIGINT ended, as shells have it
NOTHING = "nothing was saved; rerun the command to start again"
SCORED = "the scores so far are in {}; rerun the command to resume"


class Stopping:
    """Around a whole command. While a module is imported the program ends at once: libraries swallow an interrupt there."""

    def __init__(self) -> None:
        self.pressed, self.out = False, None

    def __enter__(self) -> Stopping:
        here = threading.current_thread() is threading.main_thread()
        self.installed = here and signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else it is to be ignored: nohup
        if self.installed:
            signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # all is done by then
        ended = isinstance(error, SystemExit) and error.code == CODE  # what the command line makes of an interrupt
        if isinstance(error, KeyboardInterrupt) or ended or (error is not None and self.pressed):
            print(self.line, file=sys.stderr)
            raise SystemExit(CODE) from None

    def command(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same, whose --out is where something may be kept."""

        @wraps(function)
        def begin(*args: Any, **given: Any) -> Any:
            self.out = given.get("out")
            return function(*args, **given)

        return begin

    @property
    def line(self) -> str:
        if not isinstance(self.out, Path) or not any(self.out.rglob("*.jsonl")):
            return f"strata: stopped; {NOTHING}"
        from adapters.errors import visible  # is there: a command has begun

        return f"strata: stopped; {SCORED.format(visible(self.out))}"

    def _press(self, number: int, frame: FrameType | None) -> None:
        self.pressed = True
        while frame is not None:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                os.write(2, f"{self.line}\n".encode())
                os._exit(CODE)
            frame = frame.f_back
        raise KeyboardInterrupt
