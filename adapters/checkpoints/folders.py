"""Output folders that are finished or not there at all."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from adapters.errors import StrataError, unwritable


def require_empty(out: Path) -> Path:
    """`out` as an absolute path. Raises StrataError when a finished folder cannot take its place: only an empty folder gives way."""
    try:
        out = out.resolve()
    except RuntimeError:
        raise StrataError(f"{out} is a link that leads to itself: give another --out") from None
    with writing(out):
        _require_empty(out)
    return out


def _require_empty(out: Path) -> None:
    above = next((parent for parent in out.parents if parent.exists()), out)
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise StrataError(f"{above} is {'not writable' if above.is_dir() else 'a file'}, so that {out} cannot be made: give another --out")
    if out.exists() and not out.is_dir():
        raise StrataError(f"{out} is a file: --out is a new folder, or an empty one")
    if out.exists() and any(out.iterdir()):
        raise StrataError(f"{out} is not empty: give another --out")
    if out.is_mount() or out == Path.cwd():
        what = "a mount point" if out.is_mount() else "the folder that this runs in"
        raise StrataError(f"{out} is {what} and cannot be replaced: name a new folder in it, for example --out {out / 'pruned'}")


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
        temporary = tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.")
    with temporary:
        folder = Path(temporary.name) / out.name
        folder.mkdir()
        yield folder
        with writing(out):
            os.replace(folder, out)


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
