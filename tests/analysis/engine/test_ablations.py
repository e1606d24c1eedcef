"""Families of ablations, and the place of each in a table."""

import pytest

from adapters import Ablation, StrataError
from analysis.engine.ablations import KINDS, row_key, single_ablations
from tests.reference.models import spec


def grouped(n_blocks: int = 2, n_heads: int = 6, n_kv_heads: int = 2):
    from dataclasses import replace

    shape = spec(n_blocks, n_heads)
    return replace(shape, blocks=tuple(replace(b, n_kv_heads=n_kv_heads) for b in shape.blocks))


def test_groups_share_keys_and_values() -> None:
    found = single_ablations(grouped(), ["kv_groups"])
    assert [sorted(a.heads) for a in found] == [[(i, h) for h in range(g, g + 3)] for i in (0, 1) for g in (0, 3)]
    assert [row_key(a) for a in found] == [("kv_groups", i, g) for i in (0, 1) for g in (0, 1)]


def test_groups_of_one_head_are_heads() -> None:
    assert single_ablations(spec(2, 3), ["kv_groups"]) == single_ablations(spec(2, 3), ["heads"])
    assert row_key(single_ablations(spec(2, 3), ["kv_groups"])[4]) == ("heads", 1, 1)


def test_one_group_is_all_heads() -> None:
    assert [row_key(a) for a in single_ablations(grouped(n_kv_heads=1), ["kv_groups"])] == [("kv_groups", 0, 0), ("kv_groups", 1, 0)]


@pytest.mark.parametrize("heads", [{(0, 1), (0, 2)}, {(0, 0), (0, 2)}, {(0, 0), (1, 1)}])
def test_sets_of_heads_that_are_no_group_have_no_place(heads: set) -> None:
    with pytest.raises(ValueError, match="not a single part"):
        row_key(Ablation(heads=frozenset(heads)))


@pytest.mark.parametrize("kind", ["heads", "kv_groups"])
def test_models_without_heads_are_refused(kind: str) -> None:
    with pytest.raises(StrataError, match="has no heads: use --kind blocks, mixers or ffns"):
        single_ablations(spec(2, None), [kind])
    with pytest.raises(StrataError, match="unknown kind 'kv_group': did you mean kv_groups"):
        single_ablations(spec(2), ["kv_group"])
    assert set(KINDS) == {"blocks", "mixers", "ffns", "heads", "kv_groups"}
