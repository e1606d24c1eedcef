"""Families of ablations, and the place of each in a table."""

from dataclasses import replace

import pytest

from adapters import NONE, Ablation, StrataError
from analysis.engine.ablations import KINDS, row_key, single_ablations
from tests.reference.models import spec


def grouped(n_blocks: int = 2, n_heads: int = 6, n_kv_heads: int = 2):
    shape = spec(n_blocks, n_heads)
    return replace(shape, blocks=tuple(replace(b, n_kv_heads=n_kv_heads) for b in shape.blocks))


def test_groups_share_keys_and_values() -> None:
    found = single_ablations(grouped(), ["kv_groups"])
    assert [sorted(a.heads) for a in found] == [[(i, h) for h in range(g, g + 3)] for i in (0, 1) for g in (0, 3)]
    assert [row_key(grouped(), a)[:3] for a in found] == [("kv_groups", i, g) for i in (0, 1) for g in (0, 1)]


def test_groups_of_one_head_are_heads() -> None:
    assert single_ablations(spec(2, 3), ["kv_groups"]) == single_ablations(spec(2, 3), ["heads"])
    assert row_key(spec(2, 3), single_ablations(spec(2, 3), ["kv_groups"])[4]) == ("heads", 1, 1, None, "heads 1.1")


def test_one_group_is_all_heads() -> None:
    one = grouped(n_kv_heads=1)
    assert [row_key(one, a)[:3] for a in single_ablations(one, ["kv_groups"])] == [("kv_groups", 0, 0), ("kv_groups", 1, 0)]


@pytest.mark.parametrize(
    ("out", "key"),
    [
        (NONE, ("dense", None, None, "dense")),
        (Ablation(blocks={1}), ("blocks", 1, None, "blocks 1")),
        (Ablation(mixers={1}, ffns={1}), ("blocks", 1, None, "blocks 1")),
        (Ablation(ffns={0}), ("ffns", 0, None, "ffns 0")),
        (Ablation(heads={(1, 5)}), ("heads", 1, 5, "heads 1.5")),
        (Ablation(blocks={0, 1}), ("set", None, None, "blocks 0, 1")),
        (Ablation(mixers={1}, ffns={0}), ("set", None, None, "mixers 1; ffns 0")),
        (Ablation(mixers={1}, heads={(0, 2)}), ("set", None, None, "mixers 1; heads 0.2")),
        (Ablation(heads={(0, 1), (0, 2)}), ("set", None, None, "heads 0.1, 0.2")),
        (Ablation(heads={(0, 0), (0, 2)}), ("set", None, None, "heads 0.0, 0.2")),
        (Ablation(heads={(0, 0), (1, 1), (1, 2)}), ("set", None, None, "heads 0.0, 1.1, 1.2")),
        (Ablation(blocks={1}, heads={(0, 0), (0, 1), (0, 2)}), ("set", None, None, "blocks 1; heads 0.0, 0.1, 0.2")),
    ],
)
def test_every_ablation_has_a_row_of_its_own(out: Ablation, key: tuple) -> None:
    assert row_key(grouped(), out) == (*key[:3], None, key[3])


def test_a_group_is_one_of_the_model() -> None:
    """Two heads are a group where two query heads read a key-value head, and a set where each has its own."""
    pair = Ablation(heads={(0, 2), (0, 3)})
    assert row_key(grouped(n_kv_heads=3), pair)[:3] == ("kv_groups", 0, 1)
    assert row_key(grouped(n_kv_heads=6), pair).kind == "set"


def sparse(shared: bool = False):
    """Block 0 has an MLP, blocks 1 and 2 have three experts each, with something beside them or nothing."""
    shape = spec(3)
    experts = replace(shape.blocks[0], n_experts=3, experts_per_token=2, expert_params=10, n_params=100, shared_expert=shared)
    return replace(shape, blocks=(shape.blocks[0], experts, experts))


def test_experts_are_those_of_the_blocks_that_have_some() -> None:
    found = single_ablations(sparse(), ["experts"])
    assert found == [Ablation(experts={(i, e)}) for i in (1, 2) for e in range(3)]
    assert [row_key(sparse(), a) for a in found[1:3]] == [("experts", 1, None, e, f"experts 1.{e}") for e in (1, 2)]
    assert row_key(sparse(), found[0] | found[3]) == ("set", None, None, None, "experts 1.0, 2.0")
    assert row_key(sparse(), found[0] | Ablation(heads={(1, 0)})).kind == "set"
    with pytest.raises(StrataError, match="has no experts: use `kinds` blocks, mixers or ffns"):
        single_ablations(spec(2), ["experts"])
    with pytest.raises(StrataError, match="an expert leaves no mean behind, for its tokens go to others: use `edits` zero for experts"):
        single_ablations(sparse(), ["experts"], ["mean"])


def test_an_only_expert_is_its_ffn_unless_something_is_beside_it() -> None:
    for shared in (False, True):
        alone = replace(sparse(shared), blocks=(replace(sparse(shared).blocks[1], n_experts=1, experts_per_token=1),))
        (found,) = single_ablations(alone, ["experts"])
        assert found == (Ablation(experts={(0, 0)}) if shared else Ablation(ffns={0}))


@pytest.mark.parametrize("kind", ["heads", "kv_groups"])
def test_models_without_heads_are_refused(kind: str) -> None:
    with pytest.raises(StrataError, match="has no heads: use `kinds` blocks, mixers or ffns"):
        single_ablations(spec(2, None), [kind])
    with pytest.raises(StrataError, match="unknown kind 'kv_group': did you mean kv_groups"):
        single_ablations(spec(2), ["kv_group"])
    assert set(KINDS) == {"blocks", "mixers", "ffns", "heads", "kv_groups", "experts"}
