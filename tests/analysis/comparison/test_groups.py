"""Seed groups are of one budget, and two of them are matched or not."""

from __future__ import annotations

from typing import Any

import pytest

from adapters import StrataError
from analysis.comparison.groups import groups, matching, one_training


def facts(seed: int = 0, architecture: str = "Llama: rotary", **changes: Any) -> dict[str, Any]:
    known = {
        "architecture": architecture,
        "seed": seed,
        "tokens": 100,
        "of_steps": 10,
        "n_params": 1000,
        "data": "d",
        "tokenizer": "t",
        "equals": None,
    }
    return known | changes


RWKV = "RWKV-5.2 (Eagle)"
ZOO = {
    "zoo-llama-0": facts(0),
    "zoo-llama-1": facts(1),
    "zoo-rwkv5-0": facts(0, RWKV, n_params=1020),
    "zoo-rwkv5-0-early": facts(0, RWKV, tokens=40, equals="llama-0"),
    "zoo-rwkv5-1-early": facts(1, RWKV, tokens=50, equals="llama-1"),
}


def test_seeds_of_one_architecture_are_a_group_and_others_stand_alone() -> None:
    found = groups([*ZOO, "smollm2", "models/own"], ZOO)
    assert {g.name: g.members for g in found} == {
        "Llama": ("zoo-llama-0", "zoo-llama-1"),
        RWKV: ("zoo-rwkv5-0",),
        f"{RWKV}, early": ("zoo-rwkv5-0-early", "zoo-rwkv5-1-early"),
        "smollm2": ("smollm2",),
        "models/own": ("models/own",),
    }


@pytest.mark.parametrize("key", ["tokens", "of_steps", "data", "tokenizer", "n_params"])
def test_a_group_with_another_budget_is_an_error(key: str) -> None:
    mixed = ZOO | {"zoo-llama-1": facts(1, **{key: "another" if key in ("data", "tokenizer") else 7})}
    with pytest.raises(StrataError, match=f"zoo-llama-0 and zoo-llama-1 are no seed group: {key} is"):
        groups(["zoo-llama-0", "zoo-llama-1", "zoo-rwkv5-0"], mixed)
    groups(["zoo-llama-1", "zoo-rwkv5-0"], mixed)


def test_one_seed_twice_is_no_group() -> None:
    with pytest.raises(StrataError, match="their seeds are 0, 0"):
        groups(["zoo-llama-0", "zoo-llama-1"], ZOO | {"zoo-llama-1": facts(0)})


def test_matching() -> None:
    llama, rwkv, early, own = groups([*ZOO, "own"], ZOO)
    assert matching(llama, rwkv) == "equal tokens"
    assert matching(llama, early) == matching(early, llama) == "equal loss"
    assert matching(rwkv, early) == "", "another seed's loss, or its own: nothing that they were matched by"
    assert matching(llama, own) == matching(own, own) == ""
    assert one_training(rwkv, early)
    assert not one_training(llama, rwkv)
    assert not one_training(own, own)
    larger = ZOO | {"zoo-rwkv5-0": facts(0, RWKV, n_params=1040)}
    assert matching(*groups(["zoo-llama-0", "zoo-rwkv5-0"], larger)) == ""
    fewer = ZOO | {"zoo-rwkv5-0": facts(0, RWKV, tokens=50)}
    assert matching(*groups(["zoo-llama-0", "zoo-rwkv5-0"], fewer)) == ""
