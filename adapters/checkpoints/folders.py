"""Output folders that are finished or not there at all."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from adapters.errors import StrataError, unwritable

OURS = f".strata-{re.sub(r'[^A-Za-z0-9-]', '-', platform.node()) or 'host'}."  # of this machine: no name of a machine has a dot here
LOCK = ".lock"


def require_empty(out: Path) -> Path:
    """`out` as an absolute path. Raises StrataError when a finished folder cannot take its place: only an empty folder gives way."""
    try:
        out = out.resolve()
    except RuntimeError:
        raise StrataError(f"{out} is a link that leads to itself: give another `out`") from None
    with writing(out):
        _require_empty(out)
    return out


def _require_empty(out: Path) -> None:
    above = next((parent for parent in out.parents if parent.exists()), out)
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise StrataError(f"{above} is {'not writable' if above.is_dir() else 'a file'}, so that {out} cannot be made: give another `out`")
    if out.exists() and not out.is_dir():
        raise StrataError(f"{out} is a file: `out` is a new folder, or an empty one")
    if out.exists() and any(out.iterdir()):
        raise StrataError(f"{out} is not empty: give another `out`")
    if out.is_mount() or out == Path.cwd():
        what = "a mount point" if out.is_mount() else "the folder that this runs in"
        raise StrataError(f"{out} is {what} and cannot be replaced: name a new folder in it, for example `out` {out / 'pruned'}")


@contextmanager
def finished_or_nothing(out: Path, needed: int) -> Iterator[Path]:
    """A folder beside `out` that takes its name at the end, or goes with everything in it when something fails.

    Raises StrataError as `require_empty`, and when fewer than `needed` bytes are free.
    """
    out = require_empty(out)
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(out.parent).free) < needed:
            raise unwritable(out, OSError(errno.ENOSPC, f"{free / 2**20:,.0f} MB are free, {needed / 2**20:,.0f} are needed"))
    with unfinished(out.parent) as temporary:
        folder = temporary / out.name
        folder.mkdir()
        yield folder
        with writing(out):
            as_umask_says(folder)
            os.replace(folder, out)


@contextmanager
def unfinished(parent: Path) -> Iterator[Path]:
    """A hidden folder in `parent` for what is being made, which goes with everything in it, however this ends.

    What a killed process of this machine has left goes first (`remove_abandoned`). Raises OSError when there can be none.
    """
    from filelock import FileLock, Timeout  # comes with torch

    remove_abandoned(parent)
    while True:
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=OURS))
        lock = FileLock(folder / LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout:  # another process has taken it for an abandoned one
            continue
        except NotImplementedError:  # a disk without locks, on which nobody removes anything
            pass
        break
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release(force=True)


def remove_abandoned(parent: Path) -> None:
    """Removes the folders of `unfinished` in `parent` whose process is gone: whoever is alive holds the lock in its own.

    A lock tells processes of other containers too, which an id does not. On a shared disk each machine looks after its own.
    """
    from filelock import FileLock, Timeout

    for folder in parent.glob(f"{OURS}*"):
        if folder.is_symlink():
            continue
        with suppress(Timeout, NotImplementedError, OSError), FileLock(folder / LOCK, timeout=0):
            shutil.rmtree(folder, ignore_errors=True)


def as_umask_says(folder: Path) -> None:
    """Gives the files in `folder` the mode of new ones; safetensors makes its own for nobody but their owner."""
    mode = folder.stat().st_mode & 0o666
    with suppress(PermissionError):  # of disks that know no modes
        for path in folder.rglob("*"):
            if path.is_file():
                path.chmod(mode)


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Raises StrataError in the place of what a disk raises."""
    try:
        yield
    except OSError as error:
        raise unwritable(out, error) from error
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))  # it has no errno
        raise unwritable(out, OSError(int(code[1]), os.strerror(int(code[1]))) if code else OSError(str(error))) from error


def write_json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
