"""Ctrl-C, or what a scheduler sends, whenever it comes: one line that says what is kept and how to go on."""

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

SIGNALS: dict[
    signal.Signals, Any
] = {  # that end a command, and what a process does with them unless somebody has said otherwise: nohup, for one
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGUSR1: signal.SIG_DFL,
}
NOTHING = "nothing was saved; rerun the command to start again"
SCORED = "the scores so far are in {}; rerun the command to resume"


class Stopping:
    """Around a whole command. While a module is imported the program ends at once: libraries swallow an interrupt there."""

    def __init__(self) -> None:
        self.pressed, self.out, self.code = False, None, 128 + signal.SIGINT  # as shells have it

    def __enter__(self) -> Stopping:
        here = threading.current_thread() is threading.main_thread()
        self.installed = [number for number, usual in SIGNALS.items() if here and signal.getsignal(number) is usual]
        for number in self.installed:
            signal.signal(number, self._press)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number in self.installed:
            signal.signal(number, SIGNALS[number])
            atexit.register(signal.signal, number, signal.SIG_IGN)  # all is done by then
        ended = isinstance(error, SystemExit) and error.code == 130  # what the command line makes of an interrupt
        if isinstance(error, KeyboardInterrupt) or ended or (error is not None and self.pressed):
            print(self.line, file=sys.stderr)
            raise SystemExit(self.code) from None

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
        self.pressed, self.code = True, 128 + number
        while frame is not None:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                os.write(2, f"{self.line}\n".encode())
                os._exit(self.code)
            frame = frame.f_back
        raise KeyboardInterrupt
