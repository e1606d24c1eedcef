"""Seed groups are of one budget, and two of them are matched or not."""

from __future__ import annotations

from typing import Any

import pytest

from adapters import StrataError
from adapters.catalogue import zoo
from analysis.zoo.architectures import ARCHITECTURES
from analysis.zoo.groups import beside, few, groups, matching, one_training, two_things, unequal_steps, zoo_facts

LLAMA, RWKV, RWKV7 = (ARCHITECTURES[name].title for name in ("llama", "rwkv5", "rwkv7"))


def facts(seed: int = 0, architecture: str = LLAMA, **changes: Any) -> dict[str, Any]:
    known = {
        "architecture": architecture,
        "seed": seed,
        "tokens": 100,
        "of_steps": 10,
        "n_params": 1000,
        "data": "d",
        "tokenizer": "t",
        "recipe": {"muon": 0.02},
        "weights": "w",
        "equals": None,
    }
    return known | changes


ZOO = {
    "zoo-llama-0": facts(0),
    "zoo-llama-1": facts(1),
    "zoo-rwkv5-0": facts(0, RWKV, n_params=1020),
    "zoo-rwkv5-0-early": facts(0, RWKV, tokens=40, equals="llama-0"),
    "zoo-rwkv5-1-early": facts(1, RWKV, tokens=50, equals="llama-1"),
    "zoo-rwkv7-0": facts(0, RWKV7),
}
ZOO = {name: known | {"name": name.removeprefix("zoo-")} for name, known in ZOO.items()}


def test_seeds_of_one_architecture_are_a_group_and_others_stand_alone() -> None:
    found = groups([*ZOO, "smollm2", "models/own"], ZOO)
    assert {g.name: g.members for g in found} == {
        "Llama": ("zoo-llama-0", "zoo-llama-1"),
        "RWKV-5.2": ("zoo-rwkv5-0",),
        "early RWKV-5.2": ("zoo-rwkv5-0-early", "zoo-rwkv5-1-early"),
        "RWKV-7": ("zoo-rwkv7-0",),
        "smollm2": ("smollm2",),
        "models/own": ("models/own",),
    }


@pytest.mark.parametrize("key", ["tokens", "of_steps", "data", "tokenizer", "recipe", "n_params"])
def test_a_group_with_another_budget_is_an_error(key: str) -> None:
    mixed = ZOO | {"zoo-llama-1": facts(1, **{key: "another" if key in ("data", "tokenizer") else 7})}
    with pytest.raises(StrataError, match=f"zoo-llama-0 and zoo-llama-1 are not a seed group: {key} is"):
        groups(["zoo-llama-0", "zoo-llama-1", "zoo-rwkv5-0"], mixed)
    groups(["zoo-llama-1", "zoo-rwkv5-0"], mixed)


def test_one_seed_twice_is_no_group() -> None:
    with pytest.raises(StrataError, match="their seeds are 0, 0"):
        groups(["zoo-llama-0", "zoo-llama-1"], ZOO | {"zoo-llama-1": facts(0)})


def test_matching() -> None:
    llama, rwkv, early, goose, own = groups([*ZOO, "own"], ZOO)
    assert matching(llama, rwkv) == "equal tokens"
    assert matching(llama, early) == matching(early, llama) == "equal loss"
    assert matching(rwkv, early) == "", "another seed's loss, or its own: nothing that they were matched by"
    assert matching(llama, own) == matching(own, own) == ""
    assert matching(goose, early) == "", "trained alike, but for other steps"
    assert unequal_steps(goose, early)
    assert unequal_steps(early, goose)
    assert not any(unequal_steps(*pair) for pair in ((llama, early), (llama, goose), (own, early), (own, llama)))
    assert one_training(rwkv, early)
    assert not one_training(llama, rwkv)
    assert not one_training(own, own)
    larger = ZOO | {"zoo-rwkv5-0": facts(0, RWKV, n_params=1040)}
    assert matching(*groups(["zoo-llama-0", "zoo-rwkv5-0"], larger)) == ""
    fewer = ZOO | {"zoo-rwkv5-0": facts(0, RWKV, tokens=50)}
    assert matching(*groups(["zoo-llama-0", "zoo-rwkv5-0"], fewer)) == ""


def test_a_short_comparison_holds_the_first_seeds() -> None:
    more = {
        f"zoo-{name}-{seed}": facts(seed, ARCHITECTURES[name].title, name=f"{name}-{seed}")
        for name in ("llama", "rwkv7")
        for seed in (3, 2, 1, 0)
    }
    deep = {"zoo-llama24-0": facts(0, ARCHITECTURES["llama24"].title, name="llama24-0")}
    assert few([*ZOO, "own"], ZOO) == [name for name in [*ZOO, "own"] if not name.endswith("-early")]
    assert few([*more, *deep], more | deep) == ["zoo-llama-2", "zoo-llama-1", "zoo-llama-0", "zoo-rwkv7-0"]


def test_an_architecture_and_a_depth_are_two_things() -> None:
    named = {name: facts(0, ARCHITECTURES[name].title) for name in ("llama", "rwkv5", "llama24", "rwkv5x24", "llama6")}
    llama, rwkv, llama24, rwkv24, llama6 = groups(list(named), named)
    assert two_things(llama, rwkv24)
    assert two_things(rwkv24, llama6)
    assert not any(two_things(*pair) for pair in ((llama, rwkv), (llama, llama24), (llama24, rwkv24), (llama6, llama24)))
    assert not two_things(llama, groups(["own"], {})[0])


def test_equal_loss_is_of_the_seeds_that_were_matched() -> None:
    seeds = ["zoo-llama-0", "zoo-llama-1"]
    llama, early = one = groups([*seeds, "zoo-rwkv5-0-early"], ZOO)
    assert matching(*one) == "", "not with every seed"
    assert unequal_steps(*one)
    fewer, same = beside(*one)
    assert (fewer.name, fewer.members, list(fewer.facts), same) == ("Llama", ("zoo-llama-0",), ["zoo-llama-0"], early)
    assert matching(fewer, same) == matching(*beside(early, llama)) == "equal loss"
    other = groups(["zoo-llama-1", "zoo-rwkv5-0-early"], ZOO)
    assert beside(*other) == tuple(other)
    assert matching(*other) == "", "another seed's loss"
    assert matching(*groups([*seeds, "zoo-rwkv5-0-early", "zoo-rwkv5-1-early"], ZOO)) == "equal loss"
    goose = ZOO | {"zoo-rwkv7-1-early": facts(1, RWKV7, tokens=30, equals="llama-1", name="rwkv7-1-early")}
    both = beside(*groups(["zoo-rwkv5-0-early", "zoo-rwkv5-1-early", "zoo-rwkv7-1-early"], goose))
    assert [group.members for group in both] == [("zoo-rwkv5-1-early",), ("zoo-rwkv7-1-early",)]
    assert matching(*both) == "equal loss", "both have the loss of one other training"


@pytest.mark.skipif(len(zoo()) < 2, reason="adapters/zoo holds no models yet: run `make zoo`")
def test_models_of_the_zoo_are_known_by_their_folders() -> None:
    names, known = list(zoo()), zoo_facts()
    by_name, by_folder = groups(names, known), groups([f"{zoo()[name]}/" for name in names], known)
    assert [group.name for group in by_folder] == [group.name for group in by_name]
    assert [list(group.facts.values()) for group in by_folder] == [list(group.facts.values()) for group in by_name]
