"""A second device without one: tensors that say they are on `cuda`, and are computed with by the CPU.

    with second_device(free=8 << 30):
        model = load("zoo-llama-0")  # on "cuda:0"

Tensors carry a tag. What makes, moves or reads tensors honours it, and what CUDA refuses is refused: to mix devices, or to give a tensor
of the card to numpy. Kernels and speed are not seen, nor other processes, which find no card.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

CPU, META = torch.device("cpu"), torch.device("meta")
TAG = "second_device"  # attribute of tensors that are on it
T = Tensor
MOVES = {T.to, T.cuda, T.cpu}
FREE = {T.copy_, T.type_as, T.view_as, T.expand_as, T.reshape_as, T.data.__set__, T.grad.__set__, T.backward, T.is_set_to}  # type: ignore[attr-defined]
FREE |= {
    torch._has_compatible_shallow_copy_type,
    torch.autograd.grad,
    torch.autograd.backward,
    torch.broadcast_tensors,
    torch.is_same_size,
    torch.result_type,
    T.tensor_split,
}
WHOLE = {torch.stack, torch.cat, torch.equal, T.equal}  # where a number of the CPU is no scalar
HOST = {T.numpy, T.__array__, T.__dlpack__}


class Card:
    """What all cards together hold: storages of tensors that are alive, as far as calls of torch from Python show them."""

    def __init__(self, free: int, count: int, shapes: bool) -> None:
        self.free, self.count, self.shapes = free, count, shapes
        self.peak, self._sizes = 0, dict[int, int]()

    @property
    def used(self) -> int:
        return sum(self._sizes.values())

    def hold(self, tensor: Tensor) -> None:
        """Raises torch.OutOfMemoryError where it does not fit."""
        storage = tensor.untyped_storage()
        if (key := id(storage)) in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        weakref.finalize(storage, self._sizes.pop, key, None)
        self.peak = max(self.peak, self.used)
        if self.used > self.free:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {storage.nbytes()} bytes, {self.free} were free.")


class Generator(torch.Generator):
    """Says where it is; its numbers are the CPU's."""

    where: torch.device

    def __new__(cls, device: Any = "cpu") -> Generator:
        made = super().__new__(cls)
        made.where = _device(device) or CPU
        return made


class Event:
    """Work is done as soon as it is asked for. A class, as CUDA's are: modules that are first imported meanwhile annotate with it."""

    def __init__(self, *said: Any, **how: Any) -> None: ...

    def _is_done(self, other: Any = None) -> None: ...

    record = wait = synchronize = _is_done

    def query(self) -> bool:
        return True


class Stream(Event):
    wait_stream = wait_event = Event._is_done

    def record_event(self, event: Event | None = None) -> Event:
        return event or Event()


class SecondDevice(TorchFunctionMode):
    def __init__(self, card: Card) -> None:
        super().__init__()
        self.card = card

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in GETTERS:
            return GETTERS[func](args[0])
        if func in HOST and place(args[0]).type == "cuda":
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first.")
        if func in MOVES:
            return self._moved(func, *args, **kwargs)
        if func is T.pin_memory:
            return args[0]
        if func == T.__reduce_ex__:
            return _untagged(func, *args)
        kwargs.pop("pin_memory", None)
        inputs = list(_tensors((args, kwargs)))
        _check(func, args, inputs)
        where = _device(kwargs.get("device")) or _result_of(func, args, inputs)
        if where.type == "cuda" and "device" in kwargs:
            self._require(where, kwargs)
        if where.type == "cuda" and kwargs.get("device") is not None:
            kwargs["device"] = META if self.card.shapes else CPU
        if func is T.__setitem__ and isinstance(args[2], Tensor) and args[2].is_meta and not args[0].is_meta:
            return None
        if any(t.is_meta for t in inputs) and func not in (T.__getitem__, T.__setitem__):  # which take masks and places as numbers
            args, kwargs = _shapes((args, kwargs))
        out = func(*args, **kwargs)
        if kwargs.get("device") is META and not out.is_floating_point():  # numbers that decide what is done are numbers
            out = func(*args, **kwargs | {"device": CPU})
        if func == T.__iter__:
            out = list(out)
        if func is torch.autograd.grad:
            wanted = args[1] if len(args) > 1 else kwargs["inputs"]
            for tensor, of in zip(out, [wanted] if isinstance(wanted, Tensor) else wanted, strict=True):
                for gradient in _tensors(tensor):  # None where there is none
                    self._put(gradient, place(of), inputs)
        elif func == T.data.__set__:  # type: ignore[attr-defined]
            _set(args[0], place(args[1]))
        else:
            for tensor in _tensors(out):
                self._put(tensor, where, inputs)
        return iter(out) if func == T.__iter__ else out

    def _put(self, tensor: Tensor, where: torch.device, inputs: list[Tensor]) -> None:
        if where.type == "cuda" and not any(tensor is other for other in inputs):
            setattr(tensor, TAG, where)
            self.card.hold(tensor)

    def _moved(self, func: Callable, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """`to`, `cuda` and `cpu`: another device is always another tensor."""
        said = [
            a for a in (*args, kwargs.pop("device", None), kwargs.pop("other", None)) if isinstance(a, str | int | torch.device | Tensor)
        ]
        said = [a for a in said if not isinstance(a, bool)]
        rest = [a for a in args if not isinstance(a, str | int | torch.device | Tensor) or isinstance(a, bool)]
        where = CPU if func is T.cpu else torch.device("cuda", 0) if func is T.cuda else place(x)
        like: list[Any] = []
        if said:
            where = place(said[0]) if isinstance(said[0], Tensor) else _device(said[0]) or where
            like = [said[0].dtype] if isinstance(said[0], Tensor) else []
        if where.type == "cuda":
            self._require(where, {})
        real = (META if self.card.shapes and x.is_floating_point() else CPU) if where.type == "cuda" else where
        if x.is_meta and real is not META:
            x, mine = torch.zeros(x.shape, dtype=x.dtype), place(x)  # what comes back of shapes is zero
            _set(x, mine)
        out = T.to(x, real, *like, *rest, **kwargs)
        if where != place(x) and out.untyped_storage()._cdata == x.untyped_storage()._cdata:
            out = out.clone()
        self._put(out, where, [x])
        return out

    def _require(self, where: torch.device, kwargs: dict) -> None:
        if (where.index or 0) >= self.card.count:
            raise RuntimeError("CUDA error: invalid device ordinal")
        generator = kwargs.get("generator")
        if generator is not None and getattr(generator, "where", CPU).type != "cuda":
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")


def place(tensor: Tensor) -> torch.device:
    """Where a tensor says that it is. Called without the mode: `tensor.device` is the true one."""
    with torch._C.DisableTorchFunction():
        return getattr(tensor, TAG, None) or tensor.device


def _set(tensor: Tensor, where: torch.device) -> None:
    if where.type == "cuda":
        setattr(tensor, TAG, where)
    elif hasattr(tensor, TAG):
        delattr(tensor, TAG)


def _untagged(func: Callable, tensor: Tensor, *args: Any) -> Any:
    """For pickles: a tag is no part of what is saved."""
    where = place(tensor)
    _set(tensor, CPU)
    try:
        return func(tensor, *args)
    finally:
        _set(tensor, where)


GETTERS: dict[Any, Callable[[Tensor], Any]] = {
    T.device.__get__: place,  # type: ignore[attr-defined]
    T.is_cuda.__get__: lambda t: place(t).type == "cuda",  # type: ignore[attr-defined]
    T.is_cpu.__get__: lambda t: place(t).type == "cpu",  # type: ignore[attr-defined]
    T.get_device: lambda t: place(t).index if place(t).type == "cuda" else -1,
    T.is_pinned: lambda t: False,
}


def _device(said: Any) -> torch.device | None:
    """As torch reads it, and with a number on the card."""
    if said is None:
        return None
    found = torch.device("cuda", said) if isinstance(said, int) else torch.device(said)
    return torch.device("cuda", found.index or 0) if found.type == "cuda" else found


def _tensors(found: Any) -> Iterator[Tensor]:
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, list | tuple):
        for each in found:
            yield from _tensors(each)
    elif isinstance(found, dict):
        yield from _tensors(list(found.values()))


def _shapes(found: Any) -> Any:
    """The same arguments, all of them without numbers."""
    if isinstance(found, Tensor):
        return found.to(META)
    if isinstance(found, dict):
        return {key: _shapes(each) for key, each in found.items()}
    return type(found)(map(_shapes, found)) if type(found) in (list, tuple) else found


def _check(func: Callable, args: tuple, inputs: list[Tensor]) -> None:
    """Raises RuntimeError where CUDA does: tensors of two devices, but for numbers of the CPU, and indices that stand there."""
    if func in (T.__getitem__, T.__setitem__):
        mine, indices = place(args[0]), [t for t in _tensors(args[1]) if t.dim()]
        if any(place(t) not in (CPU, mine) for t in indices):
            raise RuntimeError(f"indices should be either on cpu or on the same device as the indexed tensor ({mine})")
        copied = not any(isinstance(i, list | Tensor) for i in (args[1] if isinstance(args[1], tuple) else (args[1],)))
        if func is T.__getitem__ or copied:
            return
        inputs = [args[0], *_tensors(args[2])]
    elif func in FREE or (func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], Tensor)):
        return
    places = {place(t) for t in inputs if t.dim() or func in WHOLE or place(t).type == "cuda"}
    if len(places) > 1:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {' and '.join(sorted(map(str, places)))}!"
        )


def _result_of(func: Callable, args: tuple, inputs: list[Tensor]) -> torch.device:
    """The device of what a function gives that was told none."""
    if func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], Tensor):
        return CPU
    if func in (T.copy_, T.__getitem__, T.type_as) and isinstance(args[0], Tensor):
        return place(args[1 if func is T.type_as else 0])
    return next((place(t) for t in inputs if place(t).type == "cuda"), CPU)


@contextmanager
def second_device(free: int = 80 << 30, *, count: int = 1, shapes: bool = False) -> Iterator[Card]:
    """A machine with `count` cards, of whose memory `free` bytes are free as long as nothing is on them.

    With `shapes` its floats are shapes alone: models of any size fit into this process, and what they take can be seen.
    """
    card, load_file = Card(free, count, shapes), torch.load

    def load(file: Any, map_location: Any = None, **how: Any) -> Any:
        where = _device(map_location) if isinstance(map_location, str | torch.device) else None
        if where is None or where.type != "cuda":
            return load_file(file, map_location=map_location, **how)
        with torch._C.DisableTorchFunction():
            found = load_file(file, map_location="cpu", **how)
        for tensor in _tensors(found):
            setattr(tensor, TAG, where)
        return found

    run = threading.Thread.run

    def run_in_mode(thread: threading.Thread) -> None:
        with SecondDevice(card):
            run(thread)

    told: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: count,
        "current_device": lambda: 0,
        "mem_get_info": lambda device=None: (card.free - card.used, card.free),
        "memory_allocated": lambda device=None: card.used,
        "memory_reserved": lambda device=None: card.used,
        "max_memory_allocated": lambda device=None: card.peak,
        "reset_peak_memory_stats": lambda device=None: setattr(card, "peak", card.used),
        "empty_cache": lambda: None,
        "synchronize": lambda device=None: None,
        "get_device_name": lambda device=None: "no card",
        "is_current_stream_capturing": lambda: False,
        "Stream": Stream,
        "Event": Event,
        "current_stream": lambda device=None: Stream(),
        "stream": lambda stream: nullcontext(),
    }
    with ExitStack() as stack:
        for name, value in told.items():
            stack.enter_context(patch.object(torch.cuda, name, value))
        stack.enter_context(patch.object(T, "record_stream", lambda tensor, stream: None))
        stack.enter_context(patch.object(torch, "load", load))
        stack.enter_context(patch.object(torch, "Generator", Generator))
        stack.enter_context(patch.object(threading.Thread, "run", run_in_mode))
        stack.enter_context(SecondDevice(card))
        yield card
