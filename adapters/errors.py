"""The one error type that becomes a one-line message and exit code 2."""

from __future__ import annotations

import difflib
import errno
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

HINTS = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "; free some space or give another `out`") | dict.fromkeys(
    (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.ENOTEMPTY, errno.EBUSY, errno.ENAMETOOLONG),
    "; give another `out`",
)

LONGEST = 1000  # characters of a message
HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # kinds of characters that are not seen, and act


NO_MEMORY = ("out of memory", "not enough memory", "allocate memory")  # what torch says: on a CPU it has no type of error for that


def ran_out(error: BaseException) -> bool:
    """Whether it says that there was no memory left, of a CPU or of a card."""
    said = isinstance(error, RuntimeError | OSError) and any(words in str(error).lower() for words in NO_MEMORY)
    return said or isinstance(error, MemoryError)


CAUSES = (  # whether it is that, and the cause of a foreign error in words
    (ran_out, "there is not enough memory for it: give `weights` streamed or `dtype` bfloat16, or take a smaller one"),
    (lambda error: isinstance(error, RecursionError), "it is nested too deeply for a file of a model: download it again"),
    (lambda error: isinstance(error, PermissionError), "its files may not be read: change their permissions"),
)


class StrataError(Exception):
    """Bad input: says what was found, what is expected and how to fix it, in one line that ends, whatever it quotes."""

    def __init__(self, message: str) -> None:
        super().__init__(_shortened(visible(message)))

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a traceback, which says nothing to a user: in a notebook, too, it is one line."""
        return [f"{type(self).__name__}: {self}"]


def visible(text: object, keep: str = "") -> str:
    r"""Text from outside on one line that no terminal, figure or document acts on.

    Control characters, marks that turn the direction of text, line ends and halves of characters (bytes of a name that are no
    UTF-8) become what Python writes for them, such as \x1b; those in `keep` stay.
    """
    return "".join(repr(char)[1:-1] if unicodedata.category(char) in HIDDEN and char not in keep else char for char in str(text))


EXTRAS = {  # modules that not every installation has -> the extra of pyproject.toml that brings them
    **dict.fromkeys(("lm_eval", "datasets"), "tasks"),
    **dict.fromkeys(("matplotlib", "matplotlib_inline", "seaborn", "IPython", "tabulate", "papermill", "nbformat"), "notebooks"),
    **dict.fromkeys(("nbclient", "ipykernel", "jupyter_client", "pypandoc", "typst"), "notebooks"),
    "llmcompressor": "quantize",
    "ray": "ray",
}


def missing_extra(module: str) -> StrataError:
    """Of a module of EXTRAS."""
    return StrataError(f"{module} is not installed: pip install 'llm-strata[{EXTRAS[module]}]'")


def _shortened(line: str) -> str:
    """Without the middle where it is longer than a screen: what was found stands in front, how to fix it at the end."""
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-(LONGEST // 2 - 5) :]}"


def unknown(noun: str, found: str, valid: Iterable[str]) -> StrataError:
    """The error for a name that is not in a table, with the nearest names first."""
    valid = sorted(valid)
    near = difflib.get_close_matches(found[:100], valid, n=3) or difflib.get_close_matches(found[:100], valid, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    return StrataError(f"unknown {noun} {found[:100]!r}: {hint}valid: {', '.join(valid)}")


def unwritable(place: Path, error: OSError) -> StrataError:
    """What the disk said while `place` was written to, with the file that it is about and the hint that fits."""
    return StrataError(
        f"cannot write to {error.filename2 or error.filename or place}: {error.strerror or error}{HINTS.get(error.errno or 0, '')}"
    )


def one_line(error: BaseException) -> str:
    """What a foreign error says, in one line and not for ever; its type when it says nothing."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def is_error(error: BaseException) -> bool:
    """Whether it is an error, and no signal to stop: parsers written in Rust panic with what is no Exception."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


@contextmanager
def foreign(what: str) -> Iterator[None]:
    """Around reading what others wrote, and building from it: whatever that raises becomes one StrataError.

    It says the cause, and keeps the original behind it. For such files alone: elsewhere an error is a bug and keeps its traceback.
    """
    try:
        yield
    except StrataError:
        raise
    except BaseException as error:
        if not is_error(error):
            raise
        found = f"{type(error).__name__}: {one_line(error)}"
        damaged = f"its config.json or weights are damaged, or of different models ({found}): download them again"
        words = next((cause for holds, cause in CAUSES if holds(error)), damaged)
        raise StrataError(f"cannot read {what}: {words}") from error
