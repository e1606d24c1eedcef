"""Functions of a user's own in the identity of a run: a name, and a hash of all that decides what they compute."""

from __future__ import annotations

import dis
import hashlib
import re
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Set
from functools import cache, partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

from adapters.errors import StrataError

PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), range, slice, np.generic, torch.dtype, torch.device)
MEMBERS = (*PLAIN, FunctionType, staticmethod, classmethod, property)  # of classes
STRATA = ("adapters", "analysis", "reports", "strata")


def name_of(function: Callable) -> str:
    """What a function is called, as letters, digits and underscores."""
    while isinstance(function, partial):
        function = function.func
    name = re.sub(r"\W+", "_", getattr(function, "__name__", type(function).__name__), flags=re.ASCII).strip("_")
    return name if name[:1].isalpha() else f"f_{name}"


def fingerprint(function: Callable) -> str:
    """Module and qualified name of a function with a hash of its bytecode and of the values that it uses.

    Values are its defaults, what it closes over and the globals that it names; of modules that are not installed, as a file beside
    a script, functions and classes count by their code too, and those imported whole by their source. What is installed counts by
    its name alone. Raises StrataError on a value that has no hash, for then nobody can say whether a result is still its.
    """
    inner = function.func if isinstance(function, partial) else function
    digest = hashlib.sha256("\n".join(_lines(function, _package(inner), set(), name_of(function))).encode())
    return f"{getattr(inner, '__module__', '')}.{getattr(inner, '__qualname__', type(inner).__qualname__)} {digest.hexdigest()[:16]}"


def _lines(value: Any, home: str, seen: set[int], asked: str) -> Iterator[str]:
    """A text of all that a value is; `home` is the package whose functions are looked into, `asked` what errors name."""
    yield type(value).__qualname__
    if id(value) in seen:  # a function that calls itself
        return
    match value:
        case _ if isinstance(value, PLAIN):
            yield repr(value)
        case FunctionType() if _own(value, home):
            seen.add(id(value))
            cells = {k: c.cell_contents for k, c in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)}
            used = {k: value.__globals__[k] for k in sorted(_names(value.__code__)) if k in value.__globals__}
            yield from _code(value.__code__)
            yield from _lines([value.__defaults__, value.__kwdefaults__, cells, used], home, seen, asked)
        case MethodType():
            yield from _lines([value.__func__, value.__self__], home, seen, asked)
        case partial():
            yield from _lines([value.func, value.args, value.keywords], home, seen, asked)
        case torch.Tensor() | np.ndarray():
            array = np.ascontiguousarray(value.detach().cpu().double().numpy() if isinstance(value, torch.Tensor) else value)
            yield f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(array.tobytes()).hexdigest()}"
        case Mapping():
            for key in value:
                yield from (repr(key), *_lines(value[key], home, seen, asked))
        case Set():
            yield from sorted(" ".join(_lines(item, home, seen, asked)) for item in value)
        case list() | tuple():
            for item in value:
                yield from _lines(item, home, seen, asked)
        case ModuleType():
            yield from _sources(value, seen)
        case type() if _own(value, home):
            seen.add(id(value))
            members = {k: v for k, v in vars(value).items() if isinstance(v, MEMBERS) and k not in ("__module__", "__doc__")}
            yield from _lines([value.__qualname__, value.__bases__, members], home, seen, asked)
        case staticmethod() | classmethod():
            yield from _lines(value.__func__, home, seen, asked)
        case property():
            yield from _lines([value.fget, value.fset], home, seen, asked)
        case _ if hasattr(value, "__wrapped__") and _own(value, home):  # with a cache
            yield from _lines(value.__wrapped__, home, seen, asked)
        case _ if _own(type(value), home) and hasattr(value, "__dict__"):
            seen.add(id(value))
            yield from _lines([type(value), vars(value)], home, seen, asked)
        case _ if hasattr(value, "__qualname__"):  # a function or a class of another module
            yield f"{value.__module__}.{value.__qualname__}"
        case _:
            raise StrataError(
                f"{asked} uses a value of the type {type(value).__qualname__}, which has no hash that a run could note: "
                "register it with a title and a version instead"
            )


def _code(code: CodeType) -> Iterator[str]:
    yield f"{code.co_code.hex()} {code.co_names} {code.co_varnames} {code.co_freevars} {code.co_flags}"
    for constant in code.co_consts:
        yield from _code(constant) if isinstance(constant, CodeType) else (_constant(constant),)


def _constant(value: object) -> str:
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)  # the order of a set is not its own


def _names(code: CodeType) -> set[str]:
    """Global names that a function and those inside it look up."""
    own = {str(step.argval) for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return own.union(*(_names(c) for c in code.co_consts if isinstance(c, CodeType)))


def _sources(module: ModuleType, seen: set[int]) -> Iterator[str]:
    """The name of a module and, unless it is installed, the source of it and of all such modules that it uses."""
    yield module.__name__
    if id(module) in seen or not _local(module.__name__.split(".")[0]):
        return
    seen.add(id(module))
    if file := getattr(module, "__file__", None):
        yield hashlib.sha256(Path(file).read_bytes()).hexdigest()
    for value in list(vars(module).values()):
        used = value if isinstance(value, ModuleType) else sys.modules.get(str(getattr(value, "__module__", None)))
        if used is not None:
            yield from _sources(used, seen)


def _own(value: Any, home: str) -> bool:
    """Whether it is looked into."""
    return _package(value) == home or _local(_package(value))


@cache
def _local(package: str) -> bool:
    """Whether a package is neither installed nor Strata itself: its code changes without a version."""
    module = sys.modules.get(package)
    files = [getattr(module, "__file__", None) or "", *getattr(module, "__path__", ())]
    stdlib = Path(sysconfig.get_path("stdlib")).resolve()
    places = [Path(file).resolve() for file in files if file]
    installed = any({"site-packages", "dist-packages"} & set(place.parts) or place.is_relative_to(stdlib) for place in places)
    return bool(places) and not installed and package not in STRATA


def _package(value: Any) -> str:
    return str(getattr(value, "__module__", None) or "").split(".")[0]
