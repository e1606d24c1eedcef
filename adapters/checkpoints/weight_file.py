"""A file of weights that stays open while they are streamed, and is not to change meanwhile."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from adapters.checkpoints.files import Place
from adapters.errors import StrataError


@dataclass
class WeightFile:
    """An open file of weights, and by what it is known again."""

    number: int  # descriptor
    known: tuple[int, ...]

    @classmethod
    def of(cls, path: Path) -> WeightFile:
        number = os.open(path, os.O_RDONLY)
        return cls(number, known_by(os.fstat(number)))

    def require_unchanged(self, path: Path) -> None:
        """Raises StrataError when another file, or none, is there."""
        try:
            found = known_by(os.stat(path))
        except OSError as error:
            raise StrataError(
                f"{path} is gone while its weights are streamed ({error.strerror}): put it back and run the command again"
            ) from error
        if found != self.known:
            raise StrataError(f"{path} has changed while its weights are streamed: leave it alone and run the command again")

    def read(self, place: Place, buffer: Tensor, *, keep: bool) -> None:
        """The bytes of a tensor into `buffer` (bytes,). Pages that the kernel holds of them are given back, but where it may `keep` them.

        Raises StrataError when there are fewer.
        """
        view, done = memoryview(buffer.numpy().data), 0
        while done < place.nbytes:
            try:
                n = os.preadv(self.number, [view[done:]], place.offset + done)
            except OSError as error:
                raise StrataError(f"{place.path} cannot be read ({error.strerror}): run the command again when it can") from error
            if not n:
                raise StrataError(f"{place.path} ends in the middle of a weight: it was cut while its weights are streamed")
            done += n
        if not keep and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.number, place.offset, place.nbytes, os.POSIX_FADV_DONTNEED)

    @property
    def size(self) -> int:
        return os.fstat(self.number).st_size

    def __del__(self) -> None:
        os.close(self.number)


def known_by(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
