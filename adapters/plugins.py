"""Tables that others add to: by a call in their own code, or by an entry point of a distribution that is installed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, NamedTuple, TypeVar

from adapters.errors import StrataError, one_line, unknown

Thing = TypeVar("Thing")
NAME = re.compile(r"[A-Za-z]\w{0,63}", re.ASCII)  # names go into paths, column names and lists with commas
TITLE = re.compile(r"[^\W_]([^\W_]|[ ,.()+%/'-]){0,79}")  # titles go into sentences and tables


class Named(NamedTuple, Generic[Thing]):
    """A thing of a table with its name there."""

    name: str
    thing: Thing


def installed(group: str) -> list[str]:
    """Names of the entry points of a group; nothing is imported."""
    return sorted({point.name for point in entry_points(group=group)})


def noted(name: str, title: str, version: str) -> str | dict[str, str]:
    """What the identity of a run says of a thing: one of Strata's own has no version beside the project's."""
    return {"name": name, "title": title, "version": version} if version else name


class Table(MutableMapping[str, Thing]):
    """Things by name: Strata's own, those that are registered, and those of entry points.

    Entry points of `group` are looked for when the names are listed or an unknown one is asked for, and are imported when
    they are asked for. `read(object, title, version)` makes a thing of what one leads to, the title being its name and the
    version that of its distribution; it raises StrataError on what it cannot use. Own names win over those of entry points.
    """

    def __init__(
        self, noun: str, group: str, own: Mapping[str, Thing], read: Callable[[Any, str, str], Thing], reserved: tuple[str, ...] = ()
    ) -> None:
        self.noun, self.group, self.read, self.reserved = noun, group, read, reserved
        self.own, self.things = own, dict(own)

    @cached_property
    def plugins(self) -> dict[str, list[EntryPoint]]:
        """Entry points by name."""
        found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.group):
            if point.name not in self.own:
                found.setdefault(point.name, []).append(point)
        return found

    def register(self, name: str, thing: Thing) -> None:
        """Adds a thing, or puts it in the place of one that was registered before.

        Raises StrataError on a name that is Strata's own, an entry point's or none.
        """
        if name in self.own or name in self.plugins:
            raise StrataError(f"the {self.noun} {name!r} exists already: give yours another name")
        self.things[name] = self._checked(name, thing)

    def find(self, name: str, also: Iterable[str] = ()) -> Named[Thing]:
        """Raises StrataError on an unknown name (valid are those `also`), and on an entry point that cannot be used."""
        try:
            return Named(name, self[name])
        except KeyError:
            raise unknown(self.noun, name, (*self, *also)) from None

    def __getitem__(self, name: str) -> Thing:
        if name not in self.things:
            self.things[name] = self._load(self.plugins[name])
        return self.things[name]

    def __setitem__(self, name: str, thing: Thing) -> None:
        self.things[name] = thing

    def __delitem__(self, name: str) -> None:
        del self.things[name]

    def __contains__(self, name: object) -> bool:
        return name in self.things or name in self.plugins

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self.things, *sorted(self.plugins)]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _checked(self, name: str, thing: Thing) -> Thing:
        """Raises StrataError on a name or a title that cannot be shown everywhere, and on a title that another one has."""
        if not NAME.fullmatch(name) or name in self.reserved:
            raise StrataError(
                f"{name!r} is no name for a {self.noun}: give up to 64 letters, digits and underscores, a letter first"
                + (f", other than {', '.join(self.reserved)}" if self.reserved else "")
            )
        title = getattr(thing, "title", "none")  # families have none
        if not TITLE.fullmatch(title):
            raise StrataError(f"{title!r} is no title for a {self.noun}: give up to 80 letters, digits, spaces and , . ( ) + % / ' -")
        if others := [other for other, each in self.things.items() if other != name and getattr(each, "title", None) == title]:
            raise StrataError(f"the {self.noun} {others[0]!r} has the title {title!r}: give {name!r} another one")
        return thing

    def _load(self, points: list[EntryPoint]) -> Thing:
        point = points[0]
        makers = [p.dist.name if p.dist else "that is unknown" for p in points]
        if len(points) > 1:
            raise StrataError(f"the {self.noun} {point.name!r} comes from {' and from '.join(makers)}: uninstall all but one of them")
        try:
            version = point.dist.version if point.dist else "unknown"
            return self._checked(point.name, self.read(point.load(), point.name.replace("_", " "), version))
        except Exception as error:  # foreign code may raise anything
            raise StrataError(
                f"the {self.noun} {point.name!r} of the distribution {makers[0]} cannot be used ({one_line(error)}): "
                f"update {makers[0]}, or uninstall it"
            ) from error
