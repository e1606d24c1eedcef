"""A memory control group for a child process, where this process may make one (as root, version 1 or 2)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOTS = (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max"))  # of version 1, of version 2


@contextmanager
def memory_group(limit: int) -> Iterator[Callable[[], None] | None]:
    """What a child calls before anything else (`preexec_fn`), so that it and its pages of files take at most `limit` bytes; or None."""
    group = next(filter(None, (_made(Path(root), name, limit) for root, name in ROOTS)), None)
    try:
        yield None if group is None else lambda: (group / "cgroup.procs").write_text(str(os.getpid()))  # type: ignore[func-returns-value]
    finally:
        if group is not None:
            with suppress(OSError):
                group.rmdir()


def _made(root: Path, name: str, limit: int) -> Path | None:
    group = root / f"strata-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        return None
    try:
        (group / name).write_text(str(limit))
    except OSError:  # there is no memory controller
        group.rmdir()
        return None
    return group
