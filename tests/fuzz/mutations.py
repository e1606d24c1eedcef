"""What can happen to a file: other values in JSON, other bytes, other lines. Each change says in words what it did."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

NAN, INFINITY = float("nan"), float("inf")
VALUES: Sequence[Any] = (
    *(None, True, False, 0, -1, 1, 2, 3, 7, 2**31, 2**63, 10**12, 10**30, 0.5, -0.5, 1e-5, 1e308, NAN, INFINITY, -INFINITY),
    *("", "x", "true", "1", "\ud800", "a\nb\x1b[31m", "x" * 5000, [], {}, [1], ["a"], [[]], [None], {"a": 1}),
)
SNIPPETS = (
    *(b"\0", b"\xff", b'"', b",", b"\n", b"\r", b"\r\n", b"null", b"{}", b"[[[[", b"}" * 50, b"NaN", b"1e999", b";", b"\t", b"|", b"\\"),
    *(b"\\ud83d", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff\xfe", b"\x1b[2J", b"PAR1", b"\x1f\x8b", b"PK\x03\x04", b"GGUF", b"<html>"),
    *(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", b"../../x", b"9" * 5000),
)


def tree(rng: Random, data: Any, names: Sequence[str] = ()) -> tuple[Any, str]:
    """JSON with one value changed, gone or added; keys that are added are often among `names`."""
    where = rng.choice(list(_places(data)) or [()])
    if not where or (names and rng.random() < 0.35):
        where = (rng.choice(list(names) or ["zz"]),) if isinstance(data, dict) else ()
    if not where:
        return other(rng, data), "another value for all of it"
    at = data
    for key in where[:-1]:
        at = at[key]
    here, label = where[-1], ".".join(map(str, where))
    known = isinstance(at, list) or here in at
    if known and rng.random() < 0.2:
        del at[here]
        return data, f"{label} is gone"
    if known and rng.random() < 0.1:
        renamed = rng.choice([f"{here}x", str(here).upper(), f" {here}", "zz"])
        if isinstance(at, dict):
            at[renamed] = at.pop(here)
            return data, f"{label} is called {renamed}"
        at.insert(here, at[here])
        return data, f"{label} is there twice"
    at[here] = other(rng, at[here] if known else None)
    return data, f"{label} = {at[here]!r}"


def _places(data: Any, at: tuple = ()) -> list[tuple]:
    """Keys and indices that lead to every value; of long lists and tables to some."""
    inner = list(data.items())[:60] if isinstance(data, dict) else list(enumerate(data[:20])) if isinstance(data, list) else []
    return [found for key, value in inner for found in ((*at, key), *_places(value, (*at, key)))]


def other(rng: Random, value: Any) -> Any:
    """Another value: often one near it, or the same in another type."""
    near: Callable[[], Sequence[Any]] = {
        bool: lambda: [not value] * 4,
        int: lambda: [value + 1, value - 1, value * 2, -value, value // 2, value * 10**9, float(value), str(value)],
        float: lambda: [-value, value * 2, value * 1e300, str(value), value + 1],
        str: lambda: [value + "x", value.upper(), value[:-1], value + "\n", value * 1000, [value]],
        list: lambda: [value[:-1], value * 2, value[::-1], [value], dict(enumerate(map(str, value)))],
        dict: lambda: [[value], list(value), dict(list(value.items())[:-1])],
    }.get(type(value), lambda: VALUES)
    return rng.choice(near()) if rng.random() < 0.5 else rng.choice(VALUES)


def raw(rng: Random, data: bytes, first: int = 0, last: int | None = None) -> tuple[bytes, str]:
    """Bytes with one to five changes between two places."""
    out, said = bytearray(data), []
    end = len(data) if last is None else last
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        if first >= min(end, len(out)):
            break
        i = rng.randrange(first, min(end, len(out)))
        j = min(len(out), i + rng.randrange(1, 40))
        name = rng.choice(list(CHANGES))
        CHANGES[name](rng, out, i, j)
        said.append(f"{name} at {i}")
    return bytes(out), ", ".join(said) or "nothing"


def _flip(rng: Random, out: bytearray, i: int, j: int) -> None:
    out[i] ^= 1 << rng.randrange(8)


def _cut(rng: Random, out: bytearray, i: int, j: int) -> None:
    del out[i:]


def _drop(rng: Random, out: bytearray, i: int, j: int) -> None:
    del out[i:j]


def _snippet(rng: Random, out: bytearray, i: int, j: int) -> None:
    out[i:i] = rng.choice(SNIPPETS)


def _in_front(rng: Random, out: bytearray, i: int, j: int) -> None:
    out[0:0] = rng.choice(SNIPPETS)


def _again(rng: Random, out: bytearray, i: int, j: int) -> None:
    out[i:i] = out[i:j] * rng.choice([1, 3])


def _noise(rng: Random, out: bytearray, i: int, j: int) -> None:
    out[i:j] = rng.randbytes(j - i)


CHANGES = {
    "a bit": _flip, "an end": _cut, "a gap": _drop, "a snippet": _snippet, "a snippet in front": _in_front, "a repetition": _again,
    "noise": _noise,
}  # fmt: skip


def json_file(rng: Random, path: Path, names: Sequence[str] = ()) -> str:
    """Changes a JSON file: a value of it, its bytes, or its nesting."""
    draw = rng.random()
    if draw < 0.03:
        path.write_text(rng.choice(["[" * 100_000, '{"a":' * 100_000, "", "null", "[]", "{}", '"x"']))
        return f"{path.name}: something else"
    if draw < 0.12:
        data, said = raw(rng, path.read_bytes())
        path.write_bytes(data)
    else:
        found, said = tree(rng, json.loads(path.read_text(encoding="utf-8")), names)
        path.write_text(json.dumps(found), encoding="utf-8")
    return f"{path.name}: {said}"


def shuffled_lines(rng: Random, data: bytes) -> tuple[bytes, str]:
    """Lines that are gone, there twice, torn, or in another order."""
    lines = data.split(b"\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    name, made = rng.choice(
        [
            ("a line is gone", [*lines[:i], *lines[i + 1 :]]),
            ("a line is there twice", [*lines[:i], lines[i], *lines[i:]]),
            ("a line is torn", [*lines[:i], lines[i][: len(lines[i]) // 2], *lines[i + 1 :]]),
            ("lines are joined", [*lines[:i], b"".join(lines[i : i + 2]), *lines[i + 2 :]]),
            ("lines changed places", [lines[j] if n == i else lines[i] if n == j else line for n, line in enumerate(lines)]),
        ]
    )
    return b"\n".join(made), f"{name} ({i}, {j})"
