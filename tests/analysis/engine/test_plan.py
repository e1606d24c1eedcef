"""A plan counts what a sweep runs: published figures, and a brute-force count on random ablations."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import NONE, Ablation, StrataError
from analysis.engine.ablations import single_ablations
from analysis.engine.plan import plan
from tests.reference.ablations import ablations
from tests.reference.count import ffn_runs, mixer_runs
from tests.reference.models import spec


@pytest.mark.parametrize(
    ("n_blocks", "n_heads", "kind", "mixer_rows", "ffn_rows"),
    [
        (32, 32, "blocks", 528, 528),
        (30, 9, "blocks", 465, 465),
        (32, 32, "heads", 15_904, 16_928),
        (30, 9, "heads", 3_945, 4_215),
    ],
)
def test_published_counts(n_blocks: int, n_heads: int, kind: str, mixer_rows: int, ffn_rows: int) -> None:
    found = plan(spec(n_blocks, n_heads), single_ablations(spec(n_blocks, n_heads), [kind]))
    assert (found.mixer_rows, found.ffn_rows) == (mixer_rows, ffn_rows)


@given(data=st.data(), n_blocks=st.integers(1, 6), n_heads=st.integers(1, 4))
def test_counts_equal_brute_force(data: st.DataObject, n_blocks: int, n_heads: int) -> None:
    chosen = data.draw(ablations(n_blocks, n_heads))
    found = plan(spec(n_blocks, n_heads), chosen)
    assert found.mixer_rows == mixer_runs(n_blocks, chosen)
    assert found.ffn_rows == ffn_runs(n_blocks, chosen)


@given(data=st.data(), n_blocks=st.integers(1, 6), n_heads=st.integers(1, 4), dense_first=st.booleans())
def test_room(data: st.DataObject, n_blocks: int, n_heads: int, dense_first: bool) -> None:
    """At least the dense stream, what enters and what leaves a block; at most what all at once need."""
    found = plan(spec(n_blocks, n_heads), data.draw(ablations(n_blocks, n_heads)))
    found = type(found)(found.spec, found.ablations, found.actions, dense_first)
    assert 3 <= found.minimum <= found.widest
    everything = range(len(found.ablations))
    for i in range(n_blocks):
        assert found.branches >= max(len(found.split(i, stream)) for stream in streams_into(found, i))
    assert sorted(a for stream in streams_into(found, n_blocks) for a in stream) == list(everything)


def streams_into(found, i: int) -> list[tuple[int, ...]]:
    streams = [tuple(range(len(found.ablations)))]
    for j in range(i):
        streams = [child for stream in streams for child in found.split(j, stream).values()]
    return streams


@pytest.mark.parametrize(("n_blocks", "room"), [(1, 4), (2, 4), (3, 4), (8, 4)])
def test_single_blocks_need_four_streams(n_blocks: int, room: int) -> None:
    """The finished dense stream, one that enters a block and two that leave it: the variant is finished before the dense one goes on."""
    assert plan(spec(n_blocks), single_ablations(spec(n_blocks), ["blocks"])).minimum == room


def test_dense_is_first_and_doubles_are_dropped() -> None:
    chosen = [Ablation(blocks={1}), NONE, Ablation(mixers={1}, ffns={1}), Ablation(heads={(0, 1)}, mixers={0}), Ablation(mixers={0})]
    assert plan(spec(2), chosen).ablations == (NONE, Ablation(blocks={1}), Ablation(mixers={0}))


def test_flops_are_those_of_every_run_and_head() -> None:
    chosen = single_ablations(spec(3), ["mixers", "ffns", "heads"])
    runs = 4 * mixer_runs(3, chosen) + 6 * ffn_runs(3, chosen)
    assert plan(spec(3), chosen).flops_per_token == runs + (1 + 3 + 3 + 12) * 2 * 8 * 50


@pytest.mark.parametrize(
    ("ablation", "message"),
    [
        (Ablation(blocks={3}), "block 3 is out of range: shape has blocks 0 to 2"),
        (Ablation(ffns={-1}), "block -1 is out of range"),
        (Ablation(heads={(2, 4)}), "head 4 of block 2 is out of range: the block has heads 0 to 3"),
    ],
)
def test_what_does_not_exist_is_refused(ablation: Ablation, message: str) -> None:
    with pytest.raises(StrataError, match=message):
        plan(spec(3), [ablation])


def test_heads_are_never_invented() -> None:
    headless = spec(3, n_heads=None)
    with pytest.raises(StrataError, match="has no heads"):
        single_ablations(headless, ["heads"])
    with pytest.raises(StrataError, match="has no heads"):
        plan(headless, [Ablation(heads={(0, 0)})])
    with pytest.raises(StrataError, match="unknown kind 'block': did you mean blocks"):
        single_ablations(headless, ["block"])


@settings(max_examples=20)
@given(ablations(4, 3))
def test_deep_trees_are_counted(chosen: list[Ablation]) -> None:
    """No recursion runs into Python's limit, and blocks that nothing touches add one run for each stream that meets them."""
    small, large = plan(spec(4, 3), chosen), plan(spec(100, 3), chosen)
    assert large.mixer_rows - small.mixer_rows == 96 * len(small.ablations)
    assert large.minimum <= large.widest
