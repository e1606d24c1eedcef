"""Names of lm_eval's tasks and groups, found without parsing its thirteen thousand files, and loaded by lm_eval's own code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from adapters.errors import StrataError, missing_extra, unknown

OWN = Path(__file__).parent / "own"  # tasks in lm_eval's format that lm_eval lacks
_KEY = re.compile(r"""^["']?(task|group|tag)["']?\s*:\s*["']?([\w.:/+-]*)""")
_ENTRY = re.compile(r"""^\s*-\s*(?:(?:task|group)\s*:\s*)?["']?([\w.:/+-]+)["']?\s*$""")


@dataclass
class Named:
    """Where a name is declared, and which names it stands for."""

    folders: set[Path] = field(default_factory=set)
    files: set[Path] = field(default_factory=set)
    members: set[str] = field(default_factory=set)


@cache
def names() -> dict[str, Named]:
    """Every task, group and tag. Raises StrataError when lm_eval is not installed."""
    found: dict[str, Named] = {}
    for folder in (root(), OWN):
        for path in files(folder):
            within = OWN if folder == OWN else folder / path.relative_to(folder).parts[0]
            _declare(found, within, path, list(_entries(path)))
    return found


def not_found(name: str) -> StrataError:
    """The error for a name that no task, group or tag has, with the nearest ones of some ten thousand."""
    return StrataError(str(unknown("task", name, names())).split("valid:")[0] + "`strata tasks list` names all of them")


def folders_of(name: str) -> list[Path]:
    """The folders that lm_eval has to look into for a name and all that it stands for. Raises StrataError on an unknown one."""
    return sorted({folder for one in _closure(name) for folder in names()[one].folders})


def _closure(name: str) -> set[str]:
    if name not in names():
        raise not_found(name)
    seen, waiting = set[str](), [name]
    while waiting:
        one = waiting.pop()
        if one in names() and one not in seen:
            seen.add(one)
            waiting += names()[one].members
    return seen


def _declare(found: dict[str, Named], folder: Path, path: Path, entries: list[tuple[str, str]]) -> None:
    declared = [value for key, value in entries if key in ("group", "task") and value]
    owner = next((value for key, value in entries if key == "group"), None)
    for name in declared:
        named = found.setdefault(name, Named())
        named.folders.add(folder)
        named.files.add(path)
    for key, value in entries:
        if key == "member" and owner:
            found[owner].members.add(value)
        if key == "tag" and declared:
            tag = found.setdefault(value, Named())
            tag.folders.add(folder)
            tag.members.add(declared[0])


def _entries(path: Path) -> Iterator[tuple[str, str]]:
    """Keys and values of a file that name tasks: `task: a`, `group: b`, a list below `tag:`, and below a group's `task:`."""
    key = ""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if match := _KEY.match(line):
            key, value = match.groups()
            if value:
                yield key, value
        elif match := _ENTRY.match(line):
            if key in ("tag", "task"):
                yield "tag" if key == "tag" else "member", match[1]
        elif line[:1].strip():
            key = ""


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.yaml"))


def root() -> Path:
    """The folder of lm_eval's own tasks."""
    spec = find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        raise missing_extra("lm_eval")
    return Path(spec.submodule_search_locations[0]) / "tasks"
