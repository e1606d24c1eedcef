"""Seed groups: models that were trained alike but for their seed, and whether two groups can be compared."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from adapters.catalogue import ZOO, zoo
from adapters.errors import StrataError
from analysis.runs.files import Strict, read_json
from analysis.stats.seeds import ENOUGH

Facts = Mapping[str, Mapping[str, Any]]  # of models, by name, as in zoo.json
ALIKE = ("data", "tokenizer", "of_steps", "recipe", "n_params")  # in a seed group; also tokens, unless they were chosen by loss
FEW = {"Llama": ENOUGH, "RWKV-5.2": ENOUGH}  # seeds in a short comparison, by short title; one of all others
DEPTH = re.compile(r" of (\d+) blocks")  # in the title of an architecture that is not as deep as the others
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
    return {f"zoo-{name}": m | {"name": name} for name, m in known_models(ZOO / "zoo.json").items()}


class HeldOut(Strict, extra="allow"):
    """Loss on held-out text."""

    bits_per_byte: float
    low: float | None
    high: float | None


class Trained(Strict, extra="allow"):
    """What zoo.json says of a model, as far as it is read."""

    architecture: str
    seed: int
    steps: int
    of_steps: int
    tokens: int
    train_tokens: int
    n_params: Annotated[int, Field(gt=0)]
    data: str
    tokenizer: str
    recipe: dict[str, int | float]
    weights: str  # `ModelSpec.source_hash`
    equals: str | None
    development_nll: float
    held_out: HeldOut


class ZooFile(Strict, extra="allow"):
    """zoo.json."""

    models: dict[Annotated[str, Field(pattern=r"^\w+-\d+(-early)?$")], Trained]


def known_models(path: Path) -> dict[str, dict[str, Any]]:
    """What a zoo.json says, by model; nothing where there is none. Raises StrataError when it is none."""
    if not path.exists():
        return {}
    found = read_json(path, ZooFile, "remove it to make it again with the next release")
    return {name: m.model_dump() for name, m in found.models.items()}


def few(models: Sequence[str], facts: Facts) -> list[str]:
    """Of models of the zoo those that a short comparison holds: the first seeds of each architecture, FEW of them, none of other depths.

    Enough seeds of two architectures to say something of them come before early checkpoints at equal loss, which have none here.
    """

    def held(of: Mapping[str, Any]) -> bool:
        return not of["equals"] and of["seed"] < FEW.get(short(of["architecture"]), 1) and not other_depth(of)

    return [model for model in models if model not in facts or held(facts[model])]


def groups(models: Sequence[str], facts: Facts) -> list[Group]:
    """The models by architecture and budget, in the order in which they are named.

    Raises StrataError when models of one architecture had unequal budgets: their spread would not be one of seeds.
    """
    folders = {folder.resolve(): name for name, folder in zoo().items()}
    of_zoo = {model: folders.get(Path(model).expanduser().resolve(), model) for model in models}
    known = {model: facts[name] for model, name in of_zoo.items() if name in facts}
    found: dict[str, list[str]] = {}
    for model in models:
        found.setdefault(_title(known[model]) if model in known else model, []).append(model)
    out = [Group(name, tuple(members), {m: known[m] for m in members if m in known}) for name, members in found.items()]
    for group in out:
        if group.facts:
            _check(group)
    return out


def _title(facts: Mapping[str, Any]) -> str:
    name = short(facts["architecture"])
    return f"early {name}" if facts["equals"] else name


def short(architecture: str) -> str:
    """The title of an architecture without what it says in brackets."""
    return architecture.split(" (")[0]


def _check(group: Group) -> None:
    for key in ALIKE if group.first["equals"] else (*ALIKE, "tokens"):
        for member in group.members:
            if (theirs := group.facts[member][key]) != group.first[key]:
                raise StrataError(
                    f"{group.members[0]} and {member} are not a seed group: {key} is {group.first[key]} and {theirs}; "
                    "compare models of one budget, or name one of them"
                )
    seeds = [group.facts[m]["seed"] for m in group.members]
    if len(set(seeds)) < len(seeds):
        raise StrataError(f"{', '.join(group.members)} are not a seed group: their seeds are {', '.join(map(str, seeds))}")


def one_training(a: Group, b: Group) -> bool:
    """Is one the other at an earlier step? Their difference is one of time."""
    return bool(a.facts and b.facts) and a.first["architecture"] == b.first["architecture"]


def other_depth(of: Mapping[str, Any]) -> bool:
    """Was it made deeper or shallower than its kind?"""
    return bool(DEPTH.search(of["architecture"]))


def kind_of(architecture: str) -> str:
    """The short title of an architecture without its depth: "Llama" for "Llama of 24 blocks (rotary positions, ...)"."""
    return DEPTH.sub("", short(architecture))


def of_depths(a: Group, b: Group) -> bool:
    """Are they one kind of architecture in different numbers of blocks, at equal size?"""
    return bool(a.facts and b.facts) and kind_of(a.first["architecture"]) == kind_of(b.first["architecture"]) and not one_training(a, b)


def two_things(a: Group, b: Group) -> bool:
    """Do they differ in their architecture, and in their depth where one was made deeper or shallower than its kind?"""
    return bool(a.facts and b.facts) and unlike(a.first["architecture"], b.first["architecture"])


def unlike(a: str, b: str) -> bool:
    """The same of the titles of two architectures."""
    return kind_of(a) != kind_of(b) and DEPTH.findall(a) != DEPTH.findall(b)


def beside(a: Group, b: Group) -> tuple[Group, Group]:
    """Two groups as they can be compared: of early checkpoints and what they were matched to, the seeds that both have."""
    if not (a.facts and b.facts) or not (a.first["equals"] or b.first["equals"]):
        return a, b
    common = set(_losses(a).values()) & set(_losses(b).values())
    return (_only(a, common), _only(b, common)) if common else (a, b)


def _losses(group: Group) -> dict[str, str]:
    """Of each member the training whose loss it has: its own, or the one that it was matched to."""
    return {member: of["equals"] or of["name"] for member, of in group.facts.items()}


def _only(group: Group, losses: Container[str]) -> Group:
    kept = [member for member, loss in _losses(group).items() if loss in losses]
    return replace(group, members=tuple(kept), facts={member: group.facts[member] for member in kept})


def matching(a: Group, b: Group) -> str:
    """What two groups (`beside`) were matched by, "equal tokens" or "equal loss"; empty where they differ in more than architecture."""
    if not (a.facts and b.facts):
        return ""
    mine, theirs = a.first, b.first
    if not _alike(mine, theirs):
        return ""
    if not (mine["equals"] or theirs["equals"]):
        return "equal tokens" if mine["tokens"] == theirs["tokens"] else ""
    return "equal loss" if set(_losses(a).values()) == set(_losses(b).values()) else ""


def unequal_steps(a: Group, b: Group) -> bool:
    """Were they trained alike, and is one at an earlier step without the other's loss? Time and architecture differ then."""
    if not (a.facts and b.facts) or matching(a, b):
        return False
    return bool(a.first["equals"] or b.first["equals"]) and _alike(a.first, b.first)


def _alike(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    sizes = a["n_params"], b["n_params"]
    return all(a[key] == b[key] for key in ("data", "tokenizer", "of_steps", "recipe")) and max(sizes) <= SIZE * min(sizes)
