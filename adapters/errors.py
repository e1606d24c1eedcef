"""The one error type that becomes a one-line message and exit code 2."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path

HINTS = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "; free some space or give another --out") | dict.fromkeys(
    (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.ENOTEMPTY, errno.EBUSY, errno.ENAMETOOLONG),
    "; give another --out",
)


class StrataError(Exception):
    """Bad input: says what was found, what is expected and how to fix it, in one line."""


def unknown(noun: str, found: str, valid: Iterable[str]) -> StrataError:
    """The error for a name that is not in a table, with the nearest names first."""
    valid = sorted(valid)
    near = difflib.get_close_matches(found, valid, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    return StrataError(f"unknown {noun} {found!r}: {hint}valid: {', '.join(valid)}")


def unwritable(place: Path, error: OSError) -> StrataError:
    """What the disk said while `place` was written to, with the file that it is about and the hint that fits."""
    return StrataError(
        f"cannot write to {error.filename2 or error.filename or place}: {error.strerror or error}{HINTS.get(error.errno or 0, '')}"
    )


def one_line(error: Exception) -> str:
    """What a foreign error says, in one line and not for ever; its type when it says nothing."""
    return " ".join(str(error).split())[:300] or type(error).__name__
