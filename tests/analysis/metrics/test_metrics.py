"""Every metric against a few independent lines on the hooks of Hugging Face's model, in fp64."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from adapters import NONE, StrataError
from adapters.block import Parts
from analysis.data.batches import Text
from analysis.engine.ablations import single_ablations
from analysis.engine.tokens import wide
from analysis.metrics.metrics import METRICS, STEPS, Step, measure
from analysis.metrics.study import ImportanceStudy
from tests.reference import models
from tests.reference.families import STOCK
from tests.reference.hf import observe
from tests.reference.pairs import NAMES, Pair, pair

KINDS = ("blocks", "mixers", "ffns")  # one part a block
EXPECTED = {  # of x and y (T, d) in fp64
    "bi": lambda x, y: 1 - (x * y).sum(-1) / (x.pow(2).sum(-1) * y.pow(2).sum(-1)).sqrt(),
    "relative_magnitude": lambda x, y: ((y - x).pow(2).sum(-1) / y.pow(2).sum(-1)).sqrt(),
    "norm": lambda x, y: y.pow(2).sum(-1).sqrt(),
    "l2": lambda x, y: (y - x).pow(2).sum(-1).sqrt(),
}


@pytest.fixture(params=NAMES)
def both(request: pytest.FixtureRequest) -> Pair:
    return pair(request.param)


def steps(p: Pair, document: Tensor) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """Streams (T, d) in front of and behind every block, mixer and ffn, and without and with every head, by Hugging Face."""
    seen = observe(p.reference, document)
    n_heads = p.model.spec.blocks[0].n_heads
    heads = []
    for layer, z, mid in zip(p.reference.model.layers, seen.z, seen.mids, strict=True):
        o = layer.self_attn.o_proj.weight.unflatten(1, (n_heads, -1))  # (d, n_heads, head_dim)
        heads += [(mid[0] - delta, mid[0]) for delta in torch.einsum("thn,dhn->htd", z[0].unflatten(-1, (n_heads, -1)), o)]
    ins, mids, outs = ([x[0] for x in xs] for xs in (seen.streams[:-1], seen.mids, seen.streams[1:]))
    ends = {"blocks": (ins, outs), "mixers": (ins, mids), "ffns": (mids, outs)}
    return {kind: list(zip(*pair, strict=True)) for kind, pair in ends.items()} | {"heads": heads}


def assert_parity(found: np.ndarray, expected: np.ndarray, tolerance: float = 2e-5) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() / expected.std() < tolerance


@pytest.mark.parametrize("first", [0, 1], ids=["all", "without-first"])
@pytest.mark.parametrize("metric", EXPECTED)
def test_equals_hugging_face(both: Pair, metric: str, first: int) -> None:
    kinds = (*KINDS, "heads")
    found = measure(both.model, both.ids, both.lengths, [metric], kinds=kinds, first_token=not first)[metric]
    expected = np.array(
        [[EXPECTED[metric](x, y)[first:].sum() for kind in kinds for x, y in steps(both, document)[kind]] for document in both.documents]
    ).T
    n = len(KINDS) * len(both.model.blocks)
    assert_parity(found[:n], expected[:n])
    assert_parity(found[n:], expected[n:])


def test_heads_of_a_hybrid_are_those_of_its_attention() -> None:
    """By what is missing behind the mixer without each; blocks that have none give no rows."""
    model, _ = models.pair("jamba", **STOCK["jamba"])
    ids, mids = torch.randint(97, (2, 15), generator=torch.Generator().manual_seed(3)), []
    for out in (NONE, *(heads := single_ablations(model.spec, ["heads"]))):
        model.run(ids, out, tap=lambda i, p: mids.append(p.x_mid) if i == 1 else None)
    assert [sorted(out.heads) for out in heads] == [[(1, head)] for head in range(4)]
    expected = np.stack([(mids[0] - mid).norm(dim=-1).sum(1).numpy() for mid in mids[1:]])
    assert_parity(measure(model, ids, torch.tensor([15, 15]), ["l2"], kinds=["heads"])["l2"], expected)


def test_relative_magnitude_adds_f_once(both: Pair) -> None:
    """||f|| / ||x + f||, not ||x + f|| / ||x + (x + f)||."""
    found = measure(both.model, both.ids, both.lengths, ["relative_magnitude"])["relative_magnitude"][:, 0]
    ends = steps(both, both.documents[0])["blocks"]
    wrong = np.array([((y.norm(dim=-1)) / (x + y).norm(dim=-1)).sum() for x, y in ends])
    assert np.abs(found - wrong).max() / wrong.std() > 0.1


def test_positions_remove_in_the_order_of_table_3() -> None:
    p = pair("tiny")
    found = measure(p.model, p.ids, p.lengths, ["sequential", "reverse_order"])
    means = {name: sums / p.lengths.numpy() for name, sums in found.items()}
    assert (means["sequential"] == np.arange(3)[:, None]).all(), "block 0 is the least important"
    assert (means["reverse_order"] == -np.arange(3)[:, None]).all(), "the last block is the least important"


def test_paper_compatibility(both: Pair) -> None:
    """The paper's code takes Hugging Face's hidden states, the last of which is behind the final norm."""
    found = measure(both.model, both.ids, both.lengths, ["bi"], compat="paper")["bi"]
    expected = []
    for document in both.documents:
        states = both.reference(document, output_hidden_states=True).hidden_states
        expected.append([EXPECTED["bi"](x[0], y[0]).sum() for x, y in pairwise(states)])
    assert_parity(found, np.array(expected).T)
    plain = measure(both.model, both.ids, both.lengths, ["bi"])["bi"]
    assert np.allclose(plain[:-1], found[:-1])
    assert not np.allclose(plain[-1], found[-1], rtol=1e-3)


def test_batched_equals_one_by_one(both: Pair) -> None:
    together = measure(both.model, both.ids, both.lengths, METRICS, kinds=KINDS)
    for i, document in enumerate(both.documents):
        alone = measure(both.model, document, torch.tensor([document.shape[1]]), METRICS, kinds=KINDS)
        for name in METRICS:
            assert np.allclose(alone[name][:, 0], together[name][:, i], rtol=1e-6, atol=1e-6 * np.abs(together[name]).max())
    padded = both.ids.clone()
    padded[1, 9:], padded[2, 23:] = 2, 1
    again = measure(both.model, padded, both.lengths, METRICS, kinds=KINDS)
    assert all(np.allclose(again[name], together[name], rtol=1e-6, atol=1e-6) for name in METRICS)


def parts(x: Tensor, mixed: Tensor, fed: Tensor) -> Parts:
    return Parts(x, mixed, x + mixed, fed, x + mixed + fed, None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_large_half_precision_streams(dtype: torch.dtype) -> None:
    """||x|| ||y|| beyond 65,504 overflows in fp16: norms are 6,000 here."""
    generator = torch.Generator().manual_seed(0)
    x, mixed, fed = (scale * torch.randn(2, 5, 64, generator=generator).to(dtype) for scale in (768, 16, 16))
    p = parts(x, mixed, fed)
    for kind in KINDS:
        ((a, delta, b),) = ([wide(t) for t in move] for move in STEPS[kind](p, None))
        exact = {"bi": EXPECTED["bi"], "norm": EXPECTED["norm"]}
        for name, expected in exact.items():
            value = METRICS[name].measure(Step(a, delta, b, 0))
            assert torch.allclose(value.double(), expected(a.double(), b.double()), rtol=1e-3, atol=3e-7), (name, kind)
        f = {"blocks": mixed.double() + fed.double(), "mixers": mixed.double(), "ffns": fed.double()}[kind]
        assert torch.allclose(METRICS["l2"].measure(Step(a, delta, b, 0)).double(), f.norm(dim=-1), rtol=1e-6), kind
        ratio = METRICS["relative_magnitude"].measure(Step(a, delta, b, 0)).double()
        assert torch.allclose(ratio, f.norm(dim=-1) / b.double().norm(dim=-1), rtol=1e-6), kind


def test_large_fp16_model_is_right() -> None:
    """The streams of a whole fp16 model with embeddings of norm 2,000: BI as fp64 has it on the very same streams."""
    p = pair("tiny")
    half = p.model.with_blocks(p.model.blocks)
    half.weights = p.model.weights | {"embed": 300 * p.model.weights["embed"]}
    half.weights = {role: w.half() for role, w in half.weights.items()}
    for block in (halves := [b.with_weights({r: w.half() for r, w in b.weights.items()}) for b in half.blocks]):
        assert block.weights["q"].dtype == torch.float16
    half.blocks = halves
    streams: list[Parts] = []
    half.stream(p.documents[0], tap=lambda _, s: streams.append(s))
    assert streams[0].x_in.dtype == torch.float16
    assert streams[0].x_in.float().norm(dim=-1).min() > 1000
    found = measure(half, p.documents[0], torch.tensor([40]))["bi"][:, 0]
    expected = np.array([EXPECTED["bi"](s.x_in.double(), s.x_out.double()).sum() for s in streams])
    assert np.isfinite(found).all()
    assert np.allclose(found, expected, rtol=1e-3, atol=40 * 2e-7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["relative_magnitud"]}, "unknown metric 'relative_magnitud': did you mean relative_magnitude"),
        ({"kinds": ["head"]}, "unknown kind 'head': did you mean heads"),
        ({"compat": "official"}, "unknown compat 'official'"),
        ({"lengths": torch.tensor([40, 0, 23])}, "no token to measure"),
        ({"lengths": torch.tensor([40, 1, 23]), "first_token": False}, "no token to measure"),
    ],
)
def test_bad_input(options: dict, message: str) -> None:
    p = pair("tiny")
    with pytest.raises(StrataError, match=message):
        measure(p.model, p.ids, options.pop("lengths", p.lengths), **options)


def test_models_without_heads_are_refused() -> None:
    model, _ = models.pair("mamba", **STOCK["mamba"])
    with pytest.raises(StrataError, match="has no heads: use `kinds` blocks"):
        measure(model, torch.zeros(1, 3, dtype=torch.long), torch.tensor([3]), ["l2"], kinds=["heads"])


def test_not_finite_names_the_block_and_the_document() -> None:
    p = pair("tiny")
    poisoned = p.model.with_blocks(p.model.blocks)
    poisoned.weights = p.model.weights | {"embed": p.model.weights["embed"].clone()}
    poisoned.weights["embed"][p.ids[2, 5]] = float("nan")
    ids = torch.where(p.ids[:2] == p.ids[2, 5], 0, p.ids[:2])
    with pytest.raises(StrataError, match=r"l2 of block 0 of .* is not finite in document 2 of the batch"):
        measure(poisoned, torch.cat([ids, p.ids[2:]]), p.lengths, ["l2"])


def test_study_has_one_row_for_every_part(tmp_path) -> None:
    """All kinds and metrics in one tidy table; taylor beside them."""
    p = pair("stories260K")
    (tmp_path / "text.txt").write_text("\n".join(f"Once upon a time there was a cat number {i} that ran home." for i in range(4000)))
    text = Text(corpus=str(tmp_path / "text.txt"), split=None, window=24, documents=3)
    metrics = ("bi", "norm", "taylor")
    table = ImportanceStudy(p.model, text, metrics, kinds=KINDS, first_token=False).run(tmp_path / "run")
    assert len(table) == 3 * 3 * 5
    assert {tuple(k) for k in table[["kind", "metric"]].to_numpy()} == {(k, m) for k in KINDS for m in metrics}
    assert pd.isna(table["head"]).all()
    assert (table["value"] > 0).all()
    heads = ImportanceStudy(p.model, text, ("l2", "taylor"), kinds=("heads",)).run(tmp_path / "heads")
    assert len(heads) == 80
    assert heads["head"].tolist() == 2 * 5 * list(range(8))
    with pytest.raises(StrataError, match="unknown kind 'kv_groups'"):
        ImportanceStudy(p.model, text, ("bi",), kinds=("kv_groups",)).run(tmp_path / "none")
    assert not (tmp_path / "none").exists()
