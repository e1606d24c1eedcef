"""Weights by role: reads them from a checkpoint through key tables, and writes them back through the same tables."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from adapters.errors import StrataError


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a role's tensor stands: a key (with {i} for the block), and which part of a fused tensor's rows it is."""

    key: str
    part: int = 0
    parts: int = 1
    transposed: bool = False  # saved the other way round
    lead: int = 0  # axes of size one in front of it when it is saved; axes of size one do not matter when it is read
    exact: bool = False  # never held in less than fp32

    def stored(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape on disk of a role's shape."""
        shape = (shape[0] * self.parts, *shape[1:])
        return (1,) * self.lead + (shape[::-1] if self.transposed else shape)


Shapes = Mapping[str, tuple[int, ...]]  # by role


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One checkpoint format as tables from roles to slots."""

    model: Mapping[str, Slot]
    block: Mapping[str, Slot]
    ignored: tuple[str, ...] = ()  # endings of keys that hold no weights (buffers)
    formats: tuple[str, ...] = ("safetensors",)  # of files that stock loaders read it from

    def read(self, store: Store, model: Shapes, blocks: Sequence[Shapes]) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
        """Weights by role, of the model and of each block, when the checkpoint holds exactly the given roles and shapes.

        Raises StrataError on a missing key, an unknown key and a wrong shape, before any tensor is read.
        """
        slots = [self._slots(store, self.model, model, 0), *(self._slots(store, self.block, b, i) for i, b in enumerate(blocks))]
        used = {slot.key for table in slots for slot in table.values()}
        extra = sorted(key for key in store.shapes if key not in used and not key.endswith(self.ignored or ("\0",)))
        if extra:
            raise StrataError(
                f"{store.path} holds weights that its configuration does not explain: {_some(extra)}; "
                f"either the model has parts that are not supported, or config.json belongs to another model ({len(blocks)} blocks)"
            )
        return store.take(slots[0], model), [store.take(table, b) for table, b in zip(slots[1:], blocks, strict=True)]

    def _slots(self, store: Store, table: Mapping[str, Slot], shapes: Shapes, i: int) -> dict[str, Slot]:
        slots = {}
        for role, shape in shapes.items():
            slot = replace(table[role], key=table[role].key.format(i=i))
            found, expected = store.shapes.get(slot.key), slot.stored(shape)
            if found is None:
                raise StrataError(f"{store.path} lacks the weight {slot.key}: it is incomplete, or config.json is of another model")
            if 0 in found:
                saved = "it was saved under DeepSpeed ZeRO-3, which leaves placeholders: gather the weights (zero_to_fp32.py)"
                raise StrataError(f"{store.path}: {slot.key} is empty ({_size(found)}): {saved}")
            if _squeezed(found) != _squeezed(expected):
                sizes = f"is {_size(found)}, the configuration says {_size(expected)}"
                raise StrataError(f"{store.path}: {slot.key} {sizes}: config.json is of another model")
            slots[role] = slot
        return slots

    def write(self, weights: Mapping[str, Tensor], blocks: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Tensors by key, the inverse of `read`."""
        tensors: dict[str, list[tuple[int, Tensor]]] = {}
        for table, roles, i in [(self.model, weights, 0), *((self.block, b, i) for i, b in enumerate(blocks))]:
            for role, tensor in roles.items():
                slot = table[role]
                stored = (tensor.mT if slot.transposed else tensor)[(None,) * slot.lead]
                tensors.setdefault(slot.key.format(i=i), []).append((slot.part, stored))
        return {key: torch.cat([t for _, t in sorted(parts, key=lambda p: p[0])]).contiguous() for key, parts in tensors.items()}


@dataclass(slots=True)
class Store:
    """Tensors of one checkpoint by key, read one at a time so that no second copy of a model is held."""

    path: Path
    shapes: dict[str, tuple[int, ...]]
    read: Callable[[str], Tensor]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    origin: Store | None = None  # what the file holds, where this is a view of it
    quantised: str = ""  # how the file holds its weights, see ModelSpec
    files: tuple[Path, ...] = ()  # that it was opened from
    sizes: Mapping[str, int] = field(default_factory=dict)  # bytes of the tensors, where they are known without reading them

    def take(self, slots: Mapping[str, Slot], shapes: Shapes) -> dict[str, Tensor]:
        """Tensors by role on the device, in the dtype. Raises StrataError on a tensor of no floating-point type."""
        out = {}
        for role, slot in slots.items():
            tensor = self.read(slot.key)
            if not tensor.is_floating_point():
                found = f"{slot.key} holds {str(tensor.dtype).removeprefix('torch.')} where floats are expected"
                raise StrataError(f"{self.path}: {found}: use the checkpoint before it was quantised or converted")
            tensor = tensor.mT if slot.transposed else tensor
            if slot.parts > 1:
                tensor = tensor.chunk(slot.parts)[slot.part]
            dtype = torch.promote_types(self.dtype, torch.float32) if slot.exact else self.dtype
            out[role] = tensor.reshape(shapes[role]).to(self.device, dtype, copy=True).contiguous()
        return out

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


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
