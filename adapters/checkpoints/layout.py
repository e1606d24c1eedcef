"""Weights by role: reads them from a checkpoint through key tables, and writes them back through the same tables."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from adapters.errors import StrataError
from adapters.products import MATRICES


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a role's tensor stands: a key (with {i} for the block), and with which other roles its rows are in one tensor."""

    key: str  # with {h} where each of its rows is a tensor of its own, of that number
    fused: tuple[str, ...] = ()  # roles whose rows are in one tensor, in their order; empty: it is alone there
    grouped: bool = False  # the order is repeated for each key-value head: its queries, its key, its value, then those of the next
    transposed: bool = False  # saved the other way round
    lead: int = 0  # axes of size one in front of it when it is saved; axes of size one do not matter when it is read
    exact: bool = False  # never held in less than fp32
    stacked: bool = False  # it holds a matrix for each expert, and roles that are fused are in one tensor by these matrices' rows

    def keys(self, i: int, rows: int) -> list[str]:
        """Of its tensors in block `i`, when the role has so many rows."""
        return [self.key.format(i=i, h=h) for h in range(rows if self.in_rows else 1)]

    @property
    def in_rows(self) -> bool:
        return "{h}" in self.key

    def stored(self, shape: tuple[int, ...], rows: Sequence[int]) -> tuple[int, ...]:
        """Shape on disk of a role's shape, where the tensor has `rows` of each role that is fused; of each tensor, if it has several."""
        if self.in_rows:
            return shape[1:]
        if self.stacked:
            return (shape[0], shape[1] * len(rows), shape[2])
        shape = (sum(rows), *shape[1:])
        return (1,) * self.lead + (shape[::-1] if self.transposed else shape)


Shapes = Mapping[str, tuple[int, ...]]  # by role


class Loader(NamedTuple):
    """The weights of one block, before they are read."""

    shapes: Shapes
    take: Callable[[], dict[str, Tensor]]


def at_once(loaders: Sequence[Loader]) -> list[dict[str, Tensor]]:
    return [loader.take() for loader in loaders]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One checkpoint format as tables from roles to slots."""

    model: Mapping[str, Slot]
    block: Mapping[str, Slot]
    ignored: tuple[str, ...] = ()  # endings of keys that hold no weights (buffers)
    formats: tuple[str, ...] = ("safetensors",)  # of files that stock loaders read it from
    groups: int = 1  # key-value heads, by which grouped slots are fused
    prefix: str = ""  # of keys, which some files leave out
    otherwise: Mapping[str, Slot] = field(default_factory=dict)  # where roles of `block` stand in files that have them there

    def fitting(self, store: Store, groups: int) -> Layout:
        """The layout of one checkpoint: its number of groups, other slots where it has those, and without the prefix where it has none."""
        if any(
            re.fullmatch(re.escape(slot.key).replace(r"\{i\}", r"\d+"), key) for slot in self.otherwise.values() for key in store.shapes
        ):
            return replace(self, block={**self.block, **self.otherwise}, otherwise={}).fitting(store, groups)
        if not self.prefix or any(key.startswith(self.prefix) for key in store.shapes):
            return replace(self, groups=groups)
        model, block = (
            {role: replace(slot, key=slot.key.removeprefix(self.prefix)) for role, slot in table.items()}
            for table in (self.model, self.block)
        )
        return replace(self, model=model, block=block, groups=groups)

    def read(self, store: Store, model: Shapes, blocks: Sequence[Shapes]) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
        """Weights by role, of the model and of each block, when the checkpoint holds exactly the given roles and shapes.

        Those of blocks are read when the store's `tables` says so. Raises StrataError on a missing key, an unknown key and a wrong
        shape, before any tensor is read.
        """
        slots = [self._slots(store, self.model, model, 0), *(self._slots(store, self.block, b, i) for i, b in enumerate(blocks))]
        wanted = [(slot, shapes[role]) for table, shapes in zip(slots, (model, *blocks), strict=True) for role, slot in table.items()]
        used = {key for slot, shape in wanted for key in slot.keys(0, shape[0])}
        extra = sorted(key for key in store.shapes if key not in used and not key.endswith(self.ignored or ("\0",)))
        if extra:
            raise StrataError(
                f"{store.path} holds weights that its configuration does not explain: {_some(extra)}; "
                f"either the model has parts that are not supported, or config.json belongs to another model ({len(blocks)} blocks)"
            )
        loaders = [Loader(b, partial(store.take, t, b, self.groups)) for t, b in zip(slots[1:], blocks, strict=True)]
        tables = store.tables(loaders)
        return store.take(slots[0], model, self.groups), tables

    def _slots(self, store: Store, table: Mapping[str, Slot], shapes: Shapes, i: int) -> dict[str, Slot]:
        slots = {}
        for role, shape in shapes.items():
            slot = replace(table[role], key=table[role].key.format(i=i, h="{h}"))
            expected = slot.stored(shape, [shapes[other][0] for other in slot.fused or (role,)])
            for key in slot.keys(i, shape[0]):
                _require(store, key, expected)
            slots[role] = slot
        return slots

    def write(self, weights: Mapping[str, Tensor], blocks: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Tensors by key, the inverse of `read`."""
        tensors: dict[str, Tensor] = {}
        for table, roles, i in [(self.model, weights, 0), *((self.block, b, i) for i, b in enumerate(blocks))]:
            for role in roles:
                slot = table[role]
                if slot.fused and role != slot.fused[0]:
                    continue  # written with the first of them
                own = [roles[other] for other in slot.fused or (role,)]
                whole = torch.cat(own, 1) if slot.stacked else _joined(own, self.groups if slot.grouped else 1)
                pieces = whole.unbind() if slot.in_rows else [(whole.mT if slot.transposed else whole)[(None,) * slot.lead]]
                tensors |= {key: t.contiguous() for key, t in zip(slot.keys(i, len(pieces)), pieces, strict=True)}
        return tensors


@dataclass(slots=True)
class Store:
    """Tensors of one checkpoint by key, read one at a time so that no second copy of a model is held."""

    path: Path
    shapes: dict[str, tuple[int, ...]]
    read: Callable[[str], Tensor]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    products: torch.dtype | None = None  # in which the matrices of blocks are held, where it is another
    origin: Store | None = None  # what the file holds, where this is a view of it
    quantised: str = ""  # how the file holds its weights, see ModelSpec
    files: tuple[Path, ...] = ()  # that it was opened from
    sizes: Mapping[str, int] = field(default_factory=dict)  # bytes of the tensors, where they are known without reading them
    tables: Callable[[Sequence[Loader]], list[dict[str, Tensor]]] = at_once  # how weights of blocks are held

    def take(self, slots: Mapping[str, Slot], shapes: Shapes, groups: int = 1) -> dict[str, Tensor]:
        """Tensors by role on the device, in the dtype. Raises StrataError on a tensor of no floating-point type."""
        out = {}
        fused: dict[str, Tensor] = {}  # what several roles are in is read once
        for role, slot in slots.items():
            pieces = [fused[key] if key in fused else self._floats(key) for key in slot.keys(0, shapes[role][0])]
            if slot.fused:
                fused[slot.key] = pieces[0]
            tensor = torch.stack(pieces) if slot.in_rows else pieces[0]
            tensor = tensor.mT if slot.transposed else tensor
            if slot.fused and slot.stacked:
                tensor = tensor.chunk(len(slot.fused), 1)[slot.fused.index(role)]
            elif slot.fused:
                rows = [shapes[other][0] for other in slot.fused]
                tensor = _parted(tensor, rows, groups if slot.grouped else 1)[slot.fused.index(role)]
            dtype = torch.promote_types(self.dtype, torch.float32) if slot.exact else self.dtype
            dtype = self.products if self.products and role in MATRICES else dtype
            tensor = tensor.to(self.device)  # as it is: what has to be turned or rounded is so over there
            out[role] = tensor.reshape(shapes[role]).to(dtype, copy=True).contiguous()
        return out

    def _floats(self, key: str) -> Tensor:
        tensor = self.read(key)
        if not tensor.is_floating_point():
            found = f"{key} holds {str(tensor.dtype).removeprefix('torch.')} where floats are expected"
            raise StrataError(f"{self.path}: {found}: use the checkpoint before it was quantised or converted")
        return tensor

    @property
    def nbytes(self) -> int:
        """Of all tensors: as large as the file that holds them, but for its header."""
        return sum(self.sizes[key] if key in self.sizes else self.read(key).nbytes for key in self.shapes)

    @property
    def hash(self) -> str:
        """Identifies the weights: of every tensor of the file its key, shape and bytes."""
        if self.origin is not None:
            return self.origin.hash
        digest = hashlib.sha256()
        for key, shape in sorted(self.shapes.items()):
            tensor = self.read(key)
            digest.update(f"{key} {shape} {tensor.dtype}".encode())
            if tensor.device.type != "meta":
                digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]


def _require(store: Store, key: str, expected: tuple[int, ...]) -> None:
    """Raises StrataError when there is no tensor of this shape."""
    found = store.shapes.get(key)
    if found is None:
        raise StrataError(f"{store.path} lacks the weight {key}: it is incomplete, or config.json is of another model")
    if 0 in found:
        saved = "it was saved under DeepSpeed ZeRO-3, which leaves placeholders: gather the weights (zero_to_fp32.py)"
        raise StrataError(f"{store.path}: {key} is empty ({_size(found)}): {saved}")
    if _squeezed(found) != _squeezed(expected):
        sizes = f"is {_size(found)}, the configuration says {_size(expected)}"
        raise StrataError(f"{store.path}: {key} {sizes}: config.json is of another model")


def _joined(parts: Sequence[Tensor], groups: int) -> Tensor:
    """One tensor of the rows of all parts; of each, the rows of a group stand together."""
    if len(parts) == 1:
        return parts[0]
    return torch.cat([t.unflatten(0, (groups, -1)) for t in parts], 1).flatten(0, 1)


def _parted(whole: Tensor, rows: Sequence[int], groups: int) -> list[Tensor]:
    """The inverse of `_joined`, for parts of so many rows."""
    return [t.flatten(0, 1) for t in whole.unflatten(0, (groups, -1)).split([n // groups for n in rows], 1)]


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
