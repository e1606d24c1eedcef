"""Seed groups: models that were trained alike but for their seed, and whether two groups can be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.catalogue import ZOO
from adapters.errors import StrataError

Facts = Mapping[str, Mapping[str, Any]]  # of models, by name, as in zoo.json
ALIKE = ("data", "tokenizer", "of_steps", "n_params")  # in a seed group; also tokens, unless they were chosen by loss
SIZE = 1.03  # largest ratio of parameters of models of equal size


@dataclass(frozen=True)
class Group:
    """Models of one architecture and budget; one model, when nothing is known of its training."""

    name: str
    members: tuple[str, ...]
    facts: Facts  # of the members; empty for a model that is not of the zoo

    @property
    def first(self) -> Mapping[str, Any]:
        return self.facts[self.members[0]]


def zoo_facts() -> Facts:
    """What is known of the zoo's models, by catalogue name; empty when they are not there."""
    path = ZOO / "zoo.json"
    return {f"zoo-{name}": m for name, m in json.loads(path.read_text())["models"].items()} if path.is_file() else {}


def groups(models: Sequence[str], facts: Facts) -> list[Group]:
    """The models by architecture and budget, in the order in which they are named.

    Raises StrataError when models of one architecture had unequal budgets: their spread would not be one of seeds.
    """
    found: dict[str, list[str]] = {}
    for model in models:
        found.setdefault(_title(facts[model]) if model in facts else model, []).append(model)
    out = [Group(name, tuple(members), {m: facts[m] for m in members if m in facts}) for name, members in found.items()]
    for group in out:
        if group.facts:
            _check(group)
    return out


def _title(facts: Mapping[str, Any]) -> str:
    name = facts["architecture"].split(":")[0]
    return f"{name}, early" if facts["equals"] else name


def _check(group: Group) -> None:
    for key in ALIKE if group.first["equals"] else (*ALIKE, "tokens"):
        for member in group.members:
            if (theirs := group.facts[member][key]) != group.first[key]:
                raise StrataError(
                    f"{group.members[0]} and {member} are no seed group: {key} is {group.first[key]} and {theirs}; "
                    "compare models of one budget, or name one of them"
                )
    seeds = [group.facts[m]["seed"] for m in group.members]
    if len(set(seeds)) < len(seeds):
        raise StrataError(f"{', '.join(group.members)} are no seed group: their seeds are {', '.join(map(str, seeds))}")


def one_training(a: Group, b: Group) -> bool:
    """Is one the other at an earlier step? Their difference is one of time."""
    return bool(a.facts and b.facts) and a.first["architecture"] == b.first["architecture"]


def matching(a: Group, b: Group) -> str:
    """What two groups were matched by, "equal tokens" or "equal loss"; empty where they differ in more than architecture."""
    if not (a.facts and b.facts):
        return ""
    mine, theirs = a.first, b.first
    sizes = mine["n_params"], theirs["n_params"]
    if any(mine[key] != theirs[key] for key in ("data", "tokenizer", "of_steps")) or max(sizes) > SIZE * min(sizes):
        return ""
    equals = {m["equals"] for m in (*a.facts.values(), *b.facts.values()) if m["equals"]}
    if not equals:
        return "equal tokens" if mine["tokens"] == theirs["tokens"] else ""
    early, full = (a, b) if mine["equals"] else (b, a)
    chosen_by = {f"zoo-{m['equals']}" for m in early.facts.values() if m["equals"]}
    return "equal loss" if chosen_by <= set(full.members) else ""
