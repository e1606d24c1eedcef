"""How far a report is: a bar in a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as Bar

from adapters.errors import visible
from reports.execute import Progress

ProgressCallback = Callable[[str, Progress], None]  # told of which model, and where its notebook stands


@contextmanager
def progress() -> Iterator[ProgressCallback]:
    """A bar in a terminal; elsewhere a line a minute, and one for each notebook."""
    console = Console(stderr=True, highlight=False)
    with Bar(console=console, disable=not console.is_terminal) as bar:
        task, last, shown = bar.add_task("", total=None), 0.0, ""

        def tell(model: str, at: Progress) -> None:
            nonlocal last, shown
            title, note = visible(f"{model}, {at.notebook.stem}"), visible(at.note or "starts")
            bar.update(task, description=escape(f"{title}: {note}"), completed=at.cell, total=at.n_cells)
            if not console.is_terminal and (title != shown or (at.note and time.monotonic() - last > 60)):
                print(f"{title}: {note}", file=sys.stderr, flush=True)
                last, shown = time.monotonic(), title

        yield tell
