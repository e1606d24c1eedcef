"""Weights that stay on disk: those of a block are read when it is used, those of the next while it computes.

Files are read, not mapped: what is read takes memory once, and a file that is cut short is an error and no signal that ends the
process. Pages that the kernel keeps of a file are given back behind the reading, but for as many as fit into what is free.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from adapters.checkpoints.files import places
from adapters.checkpoints.layout import Loader, Store
from adapters.checkpoints.weight_file import WeightFile
from adapters.errors import StrataError, unknown, visible
from adapters.memory import FILLED, free, megabytes
from adapters.products import MATRICES, MIXED

KEPT = 0.5  # of what is free at the beginning: pages of files that are left to the kernel
SLOW = 20.0  # seconds that a study has waited for weights before it is told so
Table = dict[str, Tensor]  # by role

HOLDING = ("auto", "resident", "streamed")  # how weights are held


def is_streamed(weights: str, store: Store, name: str) -> bool:
    """Whether those of a checkpoint are streamed, for one of HOLDING; where `auto` decides so, it says why.

    Raises StrataError on another word, and where they are to be resident and do not fit.
    """
    if weights not in HOLDING:
        raise unknown("weights", weights, HOLDING)
    numbers, needed, room = sum(map(_numbers, store.shapes.values())), _resident_bytes(store), free(store.device)
    width = MIXED if store.products else str(store.dtype).removeprefix("torch.")
    found = f"{name} takes {megabytes(needed)} in {width} and {megabytes(room)} are free on {store.device}"
    smaller = f"with `dtype` bfloat16 it takes {megabytes(numbers * 2)}"
    if weights == "resident" and needed > room:
        raise StrataError(
            f"{found}: give `weights` streamed, which holds two blocks at once{f' ({smaller})' if store.dtype.itemsize > 2 else ''}"
        )
    if weights == "auto" and needed > FILLED * room:
        say(f"{found}: its weights are streamed from its files{f' ({smaller})' if store.dtype.itemsize > 2 else ''}")
        return True
    return weights == "streamed" and store.device.type != "meta"


def _resident_bytes(store: Store) -> int:
    """Of all weights in memory. Shapes that more than two matrices have are those of blocks: tables of tokens are two at most."""
    alike = Counter(store.shapes.values())
    narrow = (store.products or store.dtype).itemsize
    return sum(_numbers(s) * (narrow if len(s) > 1 and alike[s] > 2 else store.dtype.itemsize) for s in store.shapes.values())


def say(line: str) -> None:
    print(visible(f"strata: {line}"), file=sys.stderr)


class BlockWeights(Table):
    """The weights of one block by role. Which roles there are is known; to take a tensor out reads the block."""

    def __init__(self, reader: WeightReader, block: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self._reader, self._block, self.shapes = reader, block, dict(shapes)

    def _table(self) -> Table:
        return self._reader.block(self._block)

    def __getitem__(self, role: str) -> Tensor:
        if role not in self.shapes:
            raise KeyError(role)
        return self._table()[role]

    def get(self, role: str, default: Any = None) -> Any:
        return self[role] if role in self.shapes else default

    def __contains__(self, role: object) -> bool:
        return role in self.shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = None

    def keys(self) -> Any:
        return self.shapes.keys()

    def values(self) -> Any:
        return self._table().values()

    def items(self) -> Any:
        return self._table().items()

    def copy(self) -> Table:
        return dict(self._table())

    def __deepcopy__(self, memo: dict[int, Any]) -> Table:
        return deepcopy(self.copy(), memo)

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()


@dataclass(eq=False)
class WeightReader:
    """Reads the blocks of one checkpoint: holds the one that was asked for last, and the one behind it when it is there.

    `bytes_read` is what has been read of the files for blocks, `block_bytes` what each of them takes there, `load_bytes` what `load`
    has read of all weights: for their hash, and for its check, a pass.
    """

    store: Store
    name: str
    bytes_read: int = 0
    load_bytes: int = 0
    seconds: float = 0.0  # that the files have taken
    waited: float = 0.0  # that somebody has waited for blocks
    block_bytes: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        raw = self.store.origin or self.store
        self._files = {path: WeightFile.of(path) for path in raw.files}
        starts = accumulate((file.size for file in self._files.values()), initial=0)
        self._starts = dict(zip(self._files, starts, strict=False))  # of each file in all of them
        self._places = {key: place for path in raw.files for key, place in places(path).items()}
        prefixed = not raw.shapes.keys() <= self._places.keys()  # as `files.py` names those of a model without its head
        if prefixed:
            self._places = {key if key in raw.shapes else f"model.{key}": place for key, place in self._places.items()}
        self._keep = int(KEPT * free(torch.device("cpu")))
        raw.read, self.store.tables = self._read, self._tables
        self._loaders: Sequence[Loader] = ()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="weights")
        self._coming: dict[int, Future[Table]] = {}
        self._held: tuple[int, Table] | None = None
        self._behind: dict[int, int] = {}  # block -> which was asked for after it, where that is not the next
        self._stream = torch.cuda.Stream(self.store.device) if self.store.device.type == "cuda" else None
        self._is_backwards = False
        self._raw = 0
        self._begun = self._before = 0.0
        self._told = False

    def block(self, i: int) -> Table:
        """The weights of block `i`, by role, on the store's device. Raises StrataError when a file is not what it was."""
        if self._held is not None and self._held[0] == i:
            return self._held[1]
        start = time.perf_counter()
        if self._held is not None:
            before, self._held = self._held[0], None
            if i > before:
                self._behind[before] = i
        coming = self._coming.pop(i, None) or self._pool.submit(self._load, i)
        table = coming.result()
        if self._stream is not None:  # memory of a table that is dropped is not given to the next while this one is read
            for t in table.values():
                t.record_stream(torch.cuda.current_stream(t.device))
        following = i - 1 if self._is_backwards else self._behind.get(i, i + 1)
        self._coming = {following: self._pool.submit(self._load, following)} if 0 <= following < len(self._loaders) else {}
        self._held = (i, table)
        self.waited += time.perf_counter() - start
        self._tell(start)
        return table

    @contextmanager
    def backwards(self) -> Iterator[None]:
        """While blocks are asked for from the last to the first."""
        self._is_backwards = True
        try:
            yield
        finally:
            self._is_backwards = False

    def bytes_of(self, blocks: Sequence[int]) -> int:
        """That reading these blocks takes, each as often as it is named."""
        return sum(self.block_bytes[i] for i in blocks)

    @property
    def rate(self) -> float:
        """Bytes a second, as measured so far."""
        return self._raw / self.seconds if self.seconds else float("inf")

    @property
    def held_bytes(self) -> int:
        """At most, of the blocks in memory: two of the largest, and what one is made of."""
        dtype, narrow = self.store.dtype, self.store.products or self.store.dtype
        sizes = [
            sum(_numbers(shape) * (narrow if role in MATRICES else dtype).itemsize for role, shape in loader.shapes.items())
            for loader in self._loaders
        ]
        return 2 * max(sizes) + max(map(_numbers, self.store.shapes.values())) * 4

    def _tables(self, loaders: Sequence[Loader]) -> list[Table]:
        """Raises StrataError where not even two blocks fit beside the rest."""
        self._loaders = loaders
        rest = sum(map(_numbers, self.store.shapes.values())) - sum(_numbers(s) for loader in loaders for s in loader.shapes.values())
        needed, room = self.held_bytes + max(0, rest) * self.store.dtype.itemsize, free(self.store.device)
        if needed > room:
            smaller = ", or `dtype` bfloat16" if self.store.dtype.itemsize > 2 else ""
            raise StrataError(
                f"{self.name} takes {megabytes(needed)} even where its weights are streamed, and {megabytes(room)} are free on "
                f"{self.store.device}: use a machine with more{smaller}"
            )
        return [BlockWeights(self, i, loader.shapes) for i, loader in enumerate(loaders)]

    def _load(self, i: int) -> Table:
        before = self._raw
        for path, file in self._files.items():
            file.require_unchanged(path)
        if self._stream is None:
            table = self._loaders[i].take()
        else:  # copied while the block before computes
            with torch.cuda.stream(self._stream):
                table = self._loaders[i].take()
            self._stream.synchronize()
        self.block_bytes[i] = self._raw - before
        self.bytes_read += self.block_bytes[i]
        return table

    def _read(self, key: str) -> Tensor:
        """A tensor of the file, in memory of its own."""
        start, place = time.perf_counter(), self._places[key]
        buffer = torch.empty(place.nbytes, dtype=torch.uint8, pin_memory=self._stream is not None)
        self._files[place.path].read(place, buffer, keep=self._starts[place.path] + place.offset + place.nbytes <= self._keep)
        self._raw += place.nbytes
        self.seconds += time.perf_counter() - start
        return place.tensor(buffer)

    def _tell(self, start: float) -> None:
        """Says once that the disk is what a study waits for."""
        if self.bytes_read <= sum(self.block_bytes.values()):  # the check of `load` is no study
            self.waited, self._before, self.load_bytes = 0.0, self.seconds, self._raw
            return
        self._begun = self._begun or start
        passed = time.perf_counter() - self._begun
        waited = min(self.waited, self.seconds - self._before)  # what a quantised block takes to be turned into floats is not the disk's
        if self._told or waited < SLOW or waited < passed / 2:
            return
        self._told = True
        where = next(iter(self._files)).parent
        rate = f"{self.rate / 2**20:,.0f} MB a second"
        say(
            f"weights of {self.name} come from {where} at {rate}, and {waited / passed:.0%} of the time is spent waiting for them: "
            "a faster disk, more text at once or more memory would help"
        )


def _numbers(shape: Sequence[int]) -> int:
    return torch.Size(shape).numel()
