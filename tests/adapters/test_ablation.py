"""An ablation is a canonical value."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import KEEP, NONE, Ablation, BlockSpec, ModelSpec, StrataError
from adapters.action import EDITS

N = 6
indices = st.frozensets(st.integers(0, N - 1))
heads = st.frozensets(st.tuples(st.integers(0, N - 1), st.integers(0, 3)))
ablations = st.builds(Ablation, indices, indices, indices, heads)
edited = st.builds(Ablation, indices, indices, indices, heads, st.sampled_from(EDITS))


def spec(n_heads: int | None = 4) -> ModelSpec:
    block = BlockSpec(n_heads=n_heads, n_kv_heads=n_heads, head_dim=8, d_ffn=64, n_params=1, flops_per_token=2)
    return ModelSpec(family="f", variant="v", name="tiny", d_model=32, vocab_size=9, max_len=64, blocks=(block,) * N, n_params=1)


SPEC = spec()
WITH_EXPERTS = replace(
    SPEC, blocks=tuple(replace(block, n_experts=3, experts_per_token=1, shared_expert=i == 5) for i, block in enumerate(SPEC.blocks))
)
sparse = st.builds(Ablation, indices, indices, indices, heads, experts=st.frozensets(st.tuples(st.integers(0, N - 1), st.integers(0, 2))))


@given(indices, indices, indices, st.frozensets(st.tuples(st.integers(0, N - 1), st.integers(0, 3))))
def test_actions_are_what_was_asked_for(blocks, mixers, ffns, heads) -> None:
    actions = Ablation(blocks, mixers, ffns, heads).actions(SPEC)
    for i, action in enumerate(actions):
        assert action.mixer == (i not in blocks | mixers)
        assert action.ffn == (i not in blocks | ffns)
        assert action.heads == (frozenset(h for b, h in heads if b == i) if action.mixer else frozenset())


@given(edited, edited)
def test_equal_exactly_when_the_actions_are_equal(a: Ablation, b: Ablation) -> None:
    assert (a == b) == (a.actions(SPEC) == b.actions(SPEC))
    if a == b:
        assert hash(a) == hash(b)


@given(sparse, sparse)
def test_experts_are_out_where_the_ffn_is_not(a: Ablation, b: Ablation) -> None:
    both = a | b
    for i, (x, y, z) in enumerate(zip(*(each.actions(WITH_EXPERTS) for each in (a, b, both)), strict=True)):
        assert z.experts == (x.experts | y.experts if z.ffn else frozenset())
        assert z.before_ffn.experts == frozenset()
        assert not ((i, 0) in both.experts and i in both.ffns | both.blocks)
    assert Ablation.from_json(json.loads(json.dumps(both.to_json()))) == both
    found = both.canonical(WITH_EXPERTS)
    assert found == found.canonical(WITH_EXPERTS)
    assert not any({(i, e) for e in range(3)} <= found.experts for i in range(5))  # that is the ffn
    assert {e for e in both.experts if e[0] == 5} == {e for e in found.experts if e[0] == 5}  # here something stays


@pytest.mark.parametrize(
    ("experts", "model", "says"),
    [
        ({(1, 3)}, WITH_EXPERTS, "expert 3 of block 1 is out of range: the block has experts 0 to 2"),
        ({(6, 0)}, WITH_EXPERTS, "block 6 is out of range"),
        ({(1, 0)}, SPEC, r"block 1 of tiny \(v\) has no experts: ablate its ffn instead"),
    ],
)
def test_experts_that_do_not_exist(experts, model: ModelSpec, says: str) -> None:
    with pytest.raises(StrataError, match=says):
        Ablation(experts=experts).actions(model)


def test_an_expert_is_a_block_and_a_number() -> None:
    with pytest.raises(StrataError, match="3 is not an expert: give its block and its number there"):
        Ablation(experts={3})
    with pytest.raises(StrataError, match="an expert leaves no mean behind"):
        Ablation(experts={(0, 1)}, edit="mean")


@given(ablations)
def test_parts_of_something_that_is_out_are_dropped(a: Ablation) -> None:
    assert not a.mixers & a.ffns
    assert not a.blocks & (a.mixers | a.ffns)
    assert not {i for i, _ in a.heads} & (a.blocks | a.mixers)


@given(ablations, ablations)
def test_union_takes_out_what_either_takes_out(a: Ablation, b: Ablation) -> None:
    both = (a | b).actions(SPEC)
    for x, y, z in zip(a.actions(SPEC), b.actions(SPEC), both, strict=True):
        assert (z.mixer, z.ffn) == (x.mixer and y.mixer, x.ffn and y.ffn)
        assert z.heads == (x.heads | y.heads if z.mixer else frozenset())
    assert a | NONE == a | a == a


@given(edited)
def test_json_round_trip(a: Ablation) -> None:
    assert Ablation.from_json(json.loads(json.dumps(a.to_json()))) == a
    assert ("edit" in a.to_json()) == (a.edit != "zero")


@given(edited, edited)
def test_an_ablation_has_one_edit(a: Ablation, b: Ablation) -> None:
    if a and b and a.edit != b.edit:
        with pytest.raises(StrataError, match="an ablation has one edit, zero or mean"):
            a | b
    else:
        assert (a | b).edit == (a or b).edit
    assert Ablation(edit="mean") == NONE


def test_an_unknown_edit() -> None:
    with pytest.raises(StrataError, match="unknown edit 'mode'"):
        Ablation(blocks={0}, edit="mode")


@given(ablations)
def test_true_when_something_is_taken_out(a: Ablation) -> None:
    assert bool(a) == (a != NONE) == any(action != KEEP for action in a.actions(SPEC))


@given(ablations)
def test_pieces_in_any_spelling_are_the_same_value(a: Ablation) -> None:
    assert Ablation(list(a.blocks), a.mixers | a.blocks, a.ffns | a.blocks, [list(h) for h in a.heads]) == a


@pytest.mark.parametrize(
    ("ablation", "text"),
    [
        (NONE, "dense"),
        (Ablation(blocks={11, 2}), "blocks 2, 11"),
        (Ablation(mixers={3}, ffns={3}), "blocks 3"),
        (Ablation(heads={(1, 9)}, edit="mean"), "heads 1.9 (mean)"),
        (Ablation(blocks={0}, mixers={1}, edit="mean"), "blocks 0; mixers 1 (mean)"),
        (Ablation(blocks={0}, mixers={1}, ffns={2}, heads={(4, 10), (4, 2)}), "blocks 0; mixers 1; ffns 2; heads 4.2, 4.10"),
    ],
)
def test_text(ablation: Ablation, text: str) -> None:
    assert str(ablation) == text


@given(ablations)
def test_what_exists_can_be_taken_out(a: Ablation) -> None:
    a.check(spec())


@pytest.mark.parametrize(
    ("ablation", "message"),
    [
        (Ablation(blocks={N}), "block 6 is out of range: tiny has blocks 0 to 5"),
        (Ablation(mixers={-1}), "block -1 is out of range: tiny has blocks 0 to 5"),
        (Ablation(ffns={99}), "block 99 is out of range"),
        (Ablation(heads={(6, 0)}), "block 6 is out of range"),
        (Ablation(heads={(2, 4)}), "head 4 of block 2 is out of range: the block has heads 0 to 3"),
        (Ablation(heads={(2, -1)}), "head -1 of block 2 is out of range"),
    ],
)
def test_what_does_not_exist_cannot(ablation: Ablation, message: str) -> None:
    with pytest.raises(StrataError, match=message):
        ablation.check(spec())


def test_no_heads_to_take_out() -> None:
    with pytest.raises(StrataError, match="has no heads"):
        Ablation(heads={(0, 0)}).check(spec(n_heads=None))
    Ablation(mixers={0}).check(spec(n_heads=None))


@pytest.mark.parametrize(
    "given",
    [{"blocks": {0.5}}, {"blocks": "12"}, {"mixers": 3}, {"ffns": [None]}, {"heads": {3}}, {"heads": [(1, 2, 3)]}, {"heads": [(0, 1.5)]}],
)
def test_what_is_no_index_is_refused(given: dict) -> None:
    with pytest.raises(StrataError, match=r"from 0 on, for example"):
        Ablation(**given)


@pytest.mark.parametrize(
    "out", [Ablation(blocks={N}), Ablation(mixers={-1}), Ablation(ffns={N}), Ablation(heads={(1, 9)}), Ablation(heads={(N, 0)})]
)
def test_an_ablation_that_does_not_exist_has_no_actions(out: Ablation) -> None:
    with pytest.raises(StrataError, match="is out of range"):
        out.actions(SPEC)
