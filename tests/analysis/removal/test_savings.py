"""What deletions save, counted on models whose weights are gone; and losses compared where as much is saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adapters import Ablation, load
from analysis.removal.delete_heads import delete_heads
from analysis.removal.paths import cheapest_first, up_to
from analysis.removal.savings import MEASURES, Comparison, Curve, Saved, by_heads, compare, saved
from analysis.width.sentences import cheapest_kind, depth_or_width, more_documents, order_of_heads
from tests.reference import families, variants
from tests.reference.models import pair, spec
from tests.reference.parity import Pair

SPEC = spec(8)  # blocks of 5 parameters and 10 FLOPs, 4 of them the mixer's


@pytest.mark.parametrize("name", ["llama", "baichuan-13b", "rwkv-6", "rwkv-7"])
def test_saved_is_what_goes(name: str) -> None:
    m = pair("llama")[0] if name == "llama" else variants.model(name)
    n = m.spec.blocks[1].n_heads
    for ablation, left in (
        (Ablation(blocks={1}), [m.blocks[0], m.blocks[2]]),
        (Ablation(blocks={0}, heads={(2, 0), (2, 1)}), [m.blocks[1], delete_heads(m.blocks[2], [0, 1])]),
        (Ablation(heads={(0, n - 1), (1, 0)}), [delete_heads(m.blocks[0], [n - 1]), delete_heads(m.blocks[1], [0]), m.blocks[2]]),
    ):
        rest = m.with_blocks(left).spec
        flops = [sum(b.flops_per_token for b in s.blocks) for s in (m.spec, rest)]
        assert saved(m, ablation) == Saved(m.spec.n_params - rest.n_params, flops[0] - flops[1]), ablation


def test_what_a_norm_over_all_heads_reads_stays(tmp_path: Path) -> None:
    """OLMo 2: the values go with the last query head of their group, and what the output reads of a head."""
    m = load(families.save("olmo2", tmp_path), device="cpu", dtype="float32")
    block = m.spec.blocks[0]
    n, groups, size = block.n_heads or 0, block.n_kv_heads or 0, m.spec.d_model * (block.head_dim or 0)
    each = n // groups
    assert each > 1
    assert saved(m, Ablation(heads={(0, 0)})) == Saved(size, 2 * size)
    assert saved(m, Ablation(heads={(0, h) for h in range(each)})) == Saved((each + 1) * size, 2 * (each + 1) * size)
    assert saved(m, Ablation(heads={(0, h) for h in range(1, each + 1)})) == Saved(each * size, 2 * each * size), "of two groups"


def test_what_one_norm_reads_of_all_heads_stays() -> None:
    """Mamba-2: a head takes what reads it, and the last one the rest."""
    m, _ = pair("mamba2", **families.STOCK["mamba2"])
    block, d = m.spec.blocks[0], m.spec.d_model
    head = block.head_dim or 0
    assert saved(m, Ablation(heads={(0, 2)})) == Saved(d * head + head, 2 * d * head)
    assert saved(m, Ablation(heads={(0, h) for h in range(block.n_heads or 0)})) == Saved(block.mixer_params, block.mixer_flops)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("llama", "rows and columns of deleted heads, and keys and values"),
        ("olmo2", "values with the last head that reads them"),
        ("mamba2", "all else of a mixer with the last of its heads"),
        ("jamba", "rows and columns of deleted heads, and keys and values"),
    ],
)
def test_what_goes_with_heads_is_said(name: str, says: str) -> None:
    assert says in by_heads(pair(name, **families.STOCK[name])[0])


@pytest.mark.parametrize("name", ["mixtral", "qwen2_moe"])
@pytest.mark.parametrize("out", [{(0, 1)}, {(0, 0), (0, 2), (2, 1)}, {(0, e) for e in range(3)}, {(2, 0), (2, 1), (2, 2)}])
def test_experts_take_their_rows_of_the_router_along(name: str, out: set[tuple[int, int]]) -> None:
    """As many as a token is sent to save no FLOPs but the router's until fewer are left."""
    m = Pair(name, families.STOCK[name]).model
    left = [
        block.keep_experts([e for e in range(block.spec.n_experts) if (i, e) not in out]) if any(b == i for b, _ in out) else block
        for i, block in enumerate(m.blocks)
    ]
    rest = m.with_blocks(left).spec
    gone = saved(m, Ablation(experts=out))
    assert gone.params == m.spec.n_params - rest.n_params
    assert gone.flops == sum(b.flops_per_token for b in m.spec.blocks) - sum(b.flops_per_token for b in rest.blocks)
    assert gone.params - gone.idle == m.spec.active_params - rest.active_params
    assert gone.idle > 0


def test_mixer_and_ffn_are_the_block_and_all_heads_are_the_mixer() -> None:
    m = pair("llama")[0]
    mixer, ffn, block = (saved(m, Ablation(**{kind: {1}})) for kind in ("mixers", "ffns", "blocks"))
    assert Saved(mixer.params + ffn.params, mixer.flops + ffn.flops) == block
    assert saved(m, Ablation(heads={(1, h) for h in range(4)})) == mixer
    assert sum(saved(m, Ablation(heads={(1, h)})).params for h in (0, 1)) < saved(m, Ablation(heads={(1, 0), (1, 1)})).params, (
        "keys and values"
    )


def test_order_and_nested_sets() -> None:
    parts = [Ablation(blocks={i}) for i in range(5)]
    by_unit = cheapest_first(parts, np.array([3.0, 1, 2, 0, 1]), np.array([1.0, 1, 4, 1, 1]))
    assert [next(iter(a.blocks)) for a in by_unit] == [3, 2, 1, 4, 0]
    sets = up_to(by_unit, np.full(5, 0.2), 0.5, 12)
    assert [sorted(a.blocks) for a in sets] == [[], [3], [2, 3], [1, 2, 3]], "the first set that reaches the limit is the last"
    assert [len(a.blocks) for a in up_to(by_unit, np.full(5, 0.2), 1.0, points=3)] == [0, 1, 3, 5]
    assert [len(a.blocks) for a in up_to(by_unit, np.full(5, 0.01), 1.0, points=2)] == [0, 1, 5], (
        "what cannot reach it goes as far as it can"
    )


def path(kind: str, rises: list[float], each: int, *, documents: int = 40, noise: float = 0.02, seed: int = 0) -> Curve:
    """A path whose true rises are given, each step of which saves `each` parameters and twice as many FLOPs."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(80, 120, documents)
    dense = 3 * tokens + rng.normal(size=documents)  # the same in every path
    own = np.random.default_rng(sum(map(ord, kind))).normal(size=(len(rises), documents))
    nll = np.vstack([dense, dense + (np.array(rises)[:, None] + noise * own) * tokens])
    steps = np.arange(len(rises) + 1)
    shares = {measure: np.array([of(SPEC, Saved(each * k, 2 * each * k)) for k in steps.tolist()]) for measure, of in MEASURES.items()}
    return Curve(shares | {"heads": steps / 8}, nll, tokens)


def test_losses_are_compared_on_a_line_between_sets() -> None:
    blocks, heads = path("blocks", [1, 2, 4], 5, noise=0), path("heads", [0.1, 0.3, 0.6, 1.0], 1, noise=0)
    assert MEASURES["block parameters"](SPEC, Saved(10, 20)) == 0.25
    assert MEASURES["all parameters"](SPEC, Saved(10, 20)) == 10 / 500
    assert MEASURES["FLOPs"](SPEC, Saved(10, 20)) == 20 / (8 * 10 + 2 * 8 * 50)
    assert blocks.shares["block parameters"].tolist() == [0, 0.125, 0.25, 0.375]
    assert np.allclose(blocks.rise("block parameters", 0.125), blocks.tokens)
    assert np.allclose(blocks.rise("block parameters", 0.15), 1.2 * blocks.tokens)
    assert blocks.rise("block parameters", 0.12) is None, "one block saves more"
    assert np.allclose(blocks.rise("block parameters", 0.3), (2 + 0.4 * 2) * blocks.tokens)
    assert np.allclose(blocks.rise("block parameters", 0.375), 4 * blocks.tokens)
    assert blocks.rise("block parameters", 0.38) is None
    found = compare({"blocks": blocks, "heads": heads}, ["block parameters"], [0.05, 0.25])
    assert list(found[0].rises) == ["heads"], "one block saves more"
    assert found[0].rises["heads"].value == pytest.approx(0.3)
    assert list(found[1].rises) == ["blocks"], "heads cannot save as much"
    assert "only removing heads saves exactly that much" in cheapest_kind(found[0], n_documents=40)
    assert "no sets of them save equally much" in depth_or_width(found, n_documents=40)


def compared(**rises: list[float]) -> tuple[list[Comparison], str]:
    paths = {kind: path(kind, values, 5, noise=0.3) for kind, values in rises.items()}
    found = compare(paths, ["block parameters"], [0.125, 0.25])
    return found, " ".join(cheapest_kind(c, n_documents=40) for c in found)


def test_the_cheapest_kind_that_was_planted_is_named() -> None:
    found, said = compared(blocks=[1, 2], mixers=[0.2, 0.5], heads=[0.5, 1.2])
    assert said.count("removing mixers raises the loss least") == 2
    assert said.count("significantly less than every other kind") == 2
    assert (
        depth_or_width(found, n_documents=40)
        == "Removing heads costs significantly less than removing blocks with 12 % of block parameters and 25 % of block parameters saved."
    )


def test_nothing_is_cheapest_in_noise() -> None:
    found, said = compared(blocks=[1, 2], mixers=[1, 2], heads=[1, 2])
    assert said.count(", but not significantly less than ") == 2
    assert "Heads and blocks do not differ significantly with 12 %" in depth_or_width(found, n_documents=40)


def test_too_few_documents_decide_nothing() -> None:
    paths = {kind: path(kind, [x, 2 * x], 5, documents=5) for kind, x in (("blocks", 1.0), ("heads", 0.1))}
    (found,) = compare(paths, ["block parameters"], [0.2])
    assert "Whether the kinds differ is not known: too few documents for an interval (5 of at least 12)" in cheapest_kind(
        found, n_documents=5
    )
    assert "is not known: too few documents" in depth_or_width([found], n_documents=5)
    assert found.rises["heads"].low is None
    assert "about 9 min on this machine: set `documents` to 12" in more_documents(2, 545)
    assert more_documents(12, 545) == ""


def test_the_order_that_was_planted_is_the_best() -> None:
    good, bad = ([0.1 * k for k in range(4)], [0.5 * k for k in range(4)])
    said = order_of_heads({"causal": path("heads", good, 1), "Taylor": path("heads", bad, 1, noise=0.01)})
    assert "the order by causal raises the loss least (causal +0." in said
    assert said.endswith("significantly less than every other.")
    said = order_of_heads({"a": path("heads", good, 1), "b": path("heads", good, 1, noise=0.05)})
    assert "but not significantly less than" in said
    few = {name: path("heads", good, 1, documents=4) for name in "ab"}
    assert "is not known: too few documents" in order_of_heads(few)
