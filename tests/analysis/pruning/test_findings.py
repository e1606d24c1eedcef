"""Conclusions about removal paths: on a planted difference, on pure noise, and on too few documents."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pytest
from scipy import stats

from adapters import NONE, Ablation
from analysis.display.sentences import verdicts
from analysis.paper.shortgpt import REMOVED, removed_in_paper
from analysis.pruning import findings
from analysis.removal.paths import RemovalPath, Scored, nested, size, thinned, union
from analysis.stats.intervals import Array
from tests.reference.models import pair

DOCUMENTS, TOKENS = 24, 100.0
N = 5
MODEL = pair("llama", num_hidden_layers=N)[0]
FORWARD, BACKWARD = nested(range(N - 1)), nested(reversed(range(1, N)))


def scored(rises: Mapping[Ablation, float], *, documents: int = DOCUMENTS, noise: float = 0.02, **paths: RemovalPath) -> Scored:
    """Losses per document: a hard or easy text, the planted rise, and noise of its own for each set."""
    rng = np.random.default_rng(0)
    text = rng.normal(3, 0.5, documents)
    nll = {a: TOKENS * (text + rises.get(a, 0.0) + (noise * rng.normal(size=documents) if a else 0)) for a in union(paths)}
    return Scored(MODEL, dict(paths), nll, np.full(documents, TOKENS))


def curve(path: RemovalPath, *values: float) -> dict[Ablation, float]:
    return dict(zip(path, values, strict=True))


def test_a_break_is_named_with_its_block() -> None:
    s = scored(curve(FORWARD, 0, 0.05, 0.1, 2.0, 2.05), order=FORWARD)
    said = findings.breaks(s, "order")
    assert said.startswith("the curve breaks at 3 removed (block 2): 1.9")


def test_two_large_steps_are_no_single_break() -> None:
    s = scored(curve(FORWARD, 0, 1.0, 1.0, 2.0, 2.0), order=FORWARD)
    said = findings.breaks(s, "order")
    assert said == "there is no single break: the intervals of the rises at 1 removed (block 0), 3 removed (block 2) overlap"


def test_noise_breaks_nowhere() -> None:
    s = scored({}, noise=0.3, order=FORWARD)
    assert "breaks at" not in findings.breaks(s, "order")


def test_few_documents_break_nowhere() -> None:
    s = scored(curve(FORWARD, 0, 0, 0, 2, 2), documents=6, order=FORWARD)
    assert "is not known: too few documents" in findings.breaks(s, "order")


def test_breaks_of_sub_layers_and_of_several_blocks_at_once() -> None:
    mixer = Ablation(mixers=frozenset({1}))
    halves = (NONE, mixer, mixer | Ablation(ffns=frozenset({3})), Ablation(frozenset({1}), ffns=frozenset({3})))
    s = scored(curve(halves, 0, 0.1, 1.0, 1.1), halves=halves)
    assert "at 1 removed (ffn 3)" in findings.breaks(s, "halves")
    coarse = thinned(FORWARD, 2)
    assert "at 4 removed (blocks 0, 1, 2 and 3)" in findings.breaks(scored(curve(coarse, 0, 1.0), order=coarse), "order")


def test_the_other_half_of_a_block_is_named_alone() -> None:
    mixer = Ablation(mixers=frozenset({1}))
    halves = (NONE, mixer, Ablation(frozenset({1})))
    s = scored(curve(halves, 0, 0.1, 1.0), halves=halves)
    assert "at 1 removed (ffn 1): " in findings.breaks(s, "halves")


def test_blocks_that_come_back_are_named() -> None:
    spans = (NONE, Ablation(frozenset({3})), Ablation(frozenset({1, 2})))
    s = scored(curve(spans, 0, 0.1, 1.0), spans=spans)
    assert "at 2 removed (blocks 1 and 2, in place of block 3): " in findings.breaks(s, "spans")


def losses(*means: float, noise: float = 0.02) -> dict[str, Array]:
    rng = np.random.default_rng(1)
    text = rng.normal(3, 0.5, DOCUMENTS)
    return {f"order {i}": TOKENS * (text + mean + noise * rng.normal(size=DOCUMENTS)) for i, mean in enumerate(means)}


def test_winners() -> None:
    clear, tie = verdicts(np.full(DOCUMENTS, TOKENS), losses(1.0, 0.5, 1.2), losses(1.0, 0.5, 0.5))
    assert (clear.leaders, clear.rivals) == (("order 1",), ())
    assert {*tie.leaders, *tie.rivals} == {"order 1", "order 2"}
    (noise,) = verdicts(np.full(DOCUMENTS, TOKENS), losses(1.0, 1.0, 1.0, noise=0.5))
    assert len(noise.rivals) == 2
    few = verdicts(np.full(6, TOKENS), {name: values[:6] for name, values in losses(1.0, 0.5).items()})[0]
    assert (few.known, few.ending("less than", "which is best")) == (
        False,
        ". Which is best is not known: too few documents for an interval (6 of at least 12)",
    )


def test_what_is_told_apart_alone_may_be_chance_among_many() -> None:
    """A t of 2.5 over 24 documents has p = 0.02: enough for one pair, not for one of thirty."""
    spread = stats.zscore(np.random.default_rng(2).normal(size=DOCUMENTS), ddof=1)
    apart, same = ({"a": spread + t / np.sqrt(DOCUMENTS), "b": np.zeros(DOCUMENTS)} for t in (2.5, 0.1))
    assert verdicts(np.ones(DOCUMENTS), apart)[0] == (("b",), (), DOCUMENTS)
    assert verdicts(np.ones(DOCUMENTS), apart, *[same] * 29)[0].rivals == ("a",)


TITLES = {"forward": "forward", "backward": "backward"}


def contest(forward: tuple[float, ...], backward: tuple[float, ...], null: tuple[float, ...], **options: float) -> str:
    random = nested([2, 0, 4, 1])
    rises = curve(random, *null) | curve(BACKWARD, *backward) | curve(FORWARD, *forward)
    s = scored(rises, forward=FORWARD, backward=BACKWARD, random=random, **options)  # type: ignore[arg-type]
    return findings.contest(s, ["forward", "backward"], TITLES, ["random"])


def test_a_planted_winner_is_named_where_it_wins() -> None:
    said = contest((0, 0.5, 0.6, 2.0, 3), (0, 1.0, 1.2, 1.5, 2.2), (0, 2.0, 2.0, 2.5, 3))
    evidence = [re.search(rf"at {k} by ([\d.]+) \(([\d.]+) to ([\d.]+)\) nats per token below", said) for k in range(1, N)]
    assert "With 1 and 2 blocks removed, forward has the lowest loss, significantly below every other order (at 1 by" in said
    assert "With 3 and 4 blocks removed, backward has the lowest loss" in said  # which block is left is a choice too
    for found, gap in zip(evidence, (0.5, 0.6, 0.5, 0.8), strict=True):
        assert found is not None
        value, low, high = map(float, found.groups())
        assert low < value < high
        assert value == pytest.approx(gap, abs=0.03)
    assert "random" not in said


def test_noise_has_no_winner() -> None:
    said = contest((0,) * 5, (0,) * 5, (0,) * 5, noise=0.3)
    assert "has the lowest" not in said
    assert "no single order is best" in said
    assert "lowest rise " in said
    assert "not significantly better than the best of 1 random order" in said


def test_a_winner_that_chance_finds_as_well() -> None:
    said = contest((0, 0.5, 0.6, 0.7, 3), (0, 1.0, 1.2, 1.5, 3), (0, 0.5, 0.4, 0.3, 3))
    assert "forward has the lowest loss" in said
    assert "With 1 to 4 blocks removed, the best order is not significantly better than the best of 1 random order." in said


def test_of_two_blocks_either_may_stay() -> None:
    first, last = nested([0]), nested([1])
    s = scored(curve(last, 0, 1.0) | curve(first, 0, 0.5), first=first, last=last, random=last)
    said = findings.contest(s, ["first", "last"], {"first": "first", "last": "last"}, ["random"])
    assert said.startswith("With 1 block removed, first has the lowest loss, significantly below every other order (at 1 by 0.")
    assert "random" not in said


def test_orders_that_take_out_the_same_have_no_winner() -> None:
    s = scored({}, forward=FORWARD, backward=FORWARD, random=BACKWARD)
    said = findings.contest(s, ["forward", "backward"], TITLES, ["random"])
    assert said.startswith("With 1 to 4 blocks removed, all orders have removed the same blocks. ")


def test_few_documents_have_no_winner() -> None:
    assert "is not known: too few documents" in contest((0, 1, 1, 1, 1), (0, 2, 2, 2, 2), (0, 3, 3, 3, 3), documents=6)


def mixers_first() -> RemovalPath:
    """Every mixer from the front, then every ffn but the last."""
    path = [NONE]
    for i in range(2 * N - 1):
        part = frozenset({i % N})
        path.append(path[-1] | (Ablation(mixers=part) if i < N else Ablation(ffns=part)))
    return tuple(path)


def test_sub_layers_are_compared_where_as_many_parameters_are_gone() -> None:
    """The loss is a line in the parameters that are gone, three times as steep for sub-layers."""
    halves = mixers_first()
    bare = scored({}, forward=FORWARD, halves=halves)
    rises = {a: (3.0 if a.mixers or a.ffns else 1.0) * bare.share("block parameters", a) for a in bare.nll if a}
    s = scored(rises, forward=FORWARD, halves=halves)
    said = findings.at_equal_size(s, {"forward": "forward", "halves": "halves"})
    assert said.startswith(
        "Orders of sublayers are compared with orders of blocks at equal parameter savings. "
        "With 25 % of block parameters removed, forward has"
    )
    for share in (0.25, 0.5):  # one of five blocks is more than 10 %
        found = re.search(
            rf"With {100 * share:.0f} % of .*? lowest rise, ([\d.]+) \(.*?\) nats per token, significantly lower than that of every other",
            said,
        )
        assert found
        assert float(found[1]) == pytest.approx(share, abs=0.03)
    noise = findings.at_equal_size(scored({}, noise=0.3, forward=FORWARD, halves=halves), {"forward": "forward", "halves": "halves"})
    assert "that of every other" not in noise
    assert "but not significantly lower than " in noise
    same = findings.at_equal_size(scored({}, halves=halves, again=halves), {"halves": "halves", "again": "again"})
    assert "halves and again have the lowest rise" in same
    assert findings.at_equal_size(scored({}, documents=6, halves=halves), {"halves": "halves"}) == ""
    assert findings.at_equal_size(scored({}, forward=FORWARD), {"forward": "forward"}) == ""


def test_how_far_an_order_goes_until_perplexity_doubles() -> None:
    s = scored(curve(FORWARD, 0, 0.1, 0.5, 1.5, 3), order=FORWARD)
    assert findings.doubled(s, "order") == FORWARD[3]
    said = findings.free_blocks(s, "order", "norm")
    assert "perplexity doubles between 2 and 3 of 5 blocks removed; with 2 removed" in said
    assert "stays below" in findings.free_blocks(scored({}, order=FORWARD), "order", "norm")
    assert pytest.approx(0.693, abs=1e-3) == findings.DOUBLED
    near = scored(curve(FORWARD, 0, 0.1, 0.5, 0.72, 3), noise=0.2, order=FORWARD)
    assert (near.rise(FORWARD[3]).low or 0) < findings.DOUBLED < near.rise(FORWARD[3]).value
    said = findings.free_blocks(near, "order", "norm")
    assert "between 2 and 3 of 5 blocks removed (the interval at the latter does not exclude less); with 2 removed" in said
    below = scored(curve(FORWARD, 0, 0.1, 0.66, 1.5, 3), noise=0.2, order=FORWARD)
    assert below.rise(FORWARD[2]).value < findings.DOUBLED < (below.rise(FORWARD[2]).high or 0)
    said = findings.free_blocks(below, "order", "norm")
    assert "between 2 and 3 of 5 blocks removed (the interval at the former includes a doubling); with 2 removed" in said
    few = scored(curve(FORWARD, 0, 0.1, 0.5, 1.5, 3), documents=6, order=FORWARD)
    assert "too few documents" in findings.free_blocks(few, "order", "norm")


def test_shares_of_what_is_removed() -> None:
    s = scored({}, order=FORWARD)
    table = s.table(["order"])
    assert table["removed"].tolist() == [0, 1, 2, 3, 4]
    assert table["out"].tolist()[:3] == ["dense", "blocks 0", "blocks 0, 1"]
    assert table["block parameters"].to_numpy() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert (table["all parameters"] < table["block parameters"] + 1e-9).all()
    assert size(Ablation(blocks=frozenset({0}), mixers=frozenset({1}))) == 1.5


def test_thinned_paths_keep_both_ends() -> None:
    path = nested(range(20))
    assert [len(a.blocks) for a in thinned(path, 5)] == [0, 5, 10, 15, 20]
    assert thinned(path, 1000) == path


@pytest.mark.parametrize(
    ("name", "n_blocks", "known"),
    [
        ("Llama-2-7b-hf", 32, "llama-2-7b"),
        ("llama-2-13b", 40, "llama-2-13b"),
        ("Baichuan2-7B-Base", 32, "baichuan-2-7b"),
        ("Baichuan-2-13B", 40, "baichuan-2-13b"),
        ("Llama-2-70b-hf", 80, None),
        ("Llama-2-7b-chat-hf", 32, None),
        ("llama-2-7b", 23, None),
        ("smollm2", 30, None),
    ],
)
def test_printed_sets_are_found_by_name(name: str, n_blocks: int, known: str | None) -> None:
    assert removed_in_paper(name, n_blocks) == (REMOVED[known] if known else ())


def test_faster_only_when_the_slowest_round_beats_the_fastest() -> None:
    dense = {"prefill": 100.0, "decode": 50.0}
    said = findings.faster(dense, {"prefill": 140.0, "prefill_worst": 130.0, "decode": 60.0, "decode_worst": 45.0})
    assert said == (
        "Prompts are read 1.40 times as fast as by the unpruned model; a speed-up of generation is not larger than the noise of "
        "this machine."
    )
