"""Angles across spans and linear maps in their place, against numpy on the hooks of Hugging Face's model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from adapters import StrataError
from adapters.base import BlockModel
from adapters.wrapped import WrappedBlock
from analysis.data.batches import Batch, Text
from analysis.data.documents import Window
from analysis.metrics.linear_fit import fit_maps, linear_residual, residuals
from analysis.metrics.spans import SpanStudy, _angles, all_spans, angular, straightest
from tests.reference.hf import observe
from tests.reference.pairs import NAMES, Pair, pair


@pytest.fixture(params=NAMES)
def both(request: pytest.FixtureRequest) -> Pair:
    return pair(request.param)


def test_all_spans() -> None:
    assert all_spans(3) == [(0, 1), (1, 1), (2, 1), (0, 2), (1, 2), (0, 3)]


@pytest.mark.parametrize("first", [0, 1], ids=["all", "without-first"])
def test_angular_equals_hugging_face(both: Pair, first: int) -> None:
    found = angular(both.model, both.ids, both.lengths, first_token=not first)
    spans = all_spans(len(both.model.blocks))
    for d, document in enumerate(both.documents):
        x = [s[0].numpy() for s in observe(both.reference, document).streams]
        for i, (start, length) in enumerate(spans):
            a, b = x[start], x[start + length]
            angles = np.arccos((a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))) / np.pi
            assert found["angular_last"][i, d] == pytest.approx(angles[-1], rel=2e-5)
            assert found["angular_all"][i, d] == pytest.approx(angles[first:].sum(), rel=2e-5)


def test_batched_angles_equal_one_by_one(both: Pair) -> None:
    together = angular(both.model, both.ids, both.lengths)
    for d, document in enumerate(both.documents):
        alone = angular(both.model, document, torch.tensor([document.shape[1]]))
        for name in together:
            assert np.allclose(alone[name][:, 0], together[name][:, d], rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_identical_vectors_have_no_angle(dtype: torch.dtype) -> None:
    x = (100 * torch.randn(500, 1, 64, generator=torch.Generator().manual_seed(0))).to(dtype)
    angles = _angles(torch.cat([x, x, -x], 1))
    assert torch.isfinite(angles).all(), "never NaN"
    assert angles[:, 0, 1].max() < 1e-7
    assert (angles[:, 0, 2] - 1).abs().max() < 1e-7


def test_spans_that_do_nothing_are_at_zero() -> None:
    p = pair("tiny")
    idle = p.model.with_blocks([_Idle(b) for b in p.model.blocks])
    assert max(values.max() for values in angular(idle, p.ids, p.lengths).values()) < 1e-6


class _Idle(WrappedBlock):
    """A block that adds nothing."""

    def mix(self, x, ctx, past=None):
        return self.block.mix(x, ctx, past)._replace(delta=torch.zeros_like(x))

    def ffn(self, x, ctx, past=None):
        return torch.zeros_like(x), None


def documents(model: BlockModel, n: int, seed: int) -> Batch:
    ids = torch.randint(3, model.spec.vocab_size, (n, 40), generator=torch.Generator().manual_seed(seed))
    lengths = torch.tensor([40 - i % 5 for i in range(n)])
    return Batch([Window(f"{seed}-{i}", 0, "") for i in range(n)], ids, lengths, lengths.numpy() - 1, lengths.numpy())


def test_linear_residual_equals_least_squares(both: Pair) -> None:
    fitted, measured = documents(both.model, 20, 0), documents(both.model, 4, 1)
    spans = [(0, 1), (1, 1), (1, 2)]
    table = linear_residual(both.model, [fitted], [measured], spans, damping=0.0)
    sides = []
    for batch in (fitted, measured):
        rows = [observe(both.reference, ids[None, :n]).streams for ids, n in zip(batch.ids, batch.lengths.tolist(), strict=True)]
        sides.append([np.concatenate([streams[i][0, 1:] for streams in rows]) for i in range(len(rows[0]))])
    train, test = sides
    for row, (start, length) in zip(table.itertuples(), spans, strict=True):
        v = np.linalg.lstsq(train[start], train[start + length] - train[start], rcond=None)[0]
        change = test[start + length] - test[start]
        expected = ((change - test[start] @ v) ** 2).sum() / (change**2).sum()
        assert (row.start, row.length, row.n_documents, row.n_tokens) == (start, length, 4, len(change))
        assert row.value == pytest.approx(expected, rel=2e-5)
    assert table["ci_low"].isna().all(), "four documents"


def test_a_linear_block_is_replaceable_and_noise_is_not() -> None:
    p = pair("tiny")
    d, generator = p.model.spec.d_model, torch.Generator().manual_seed(0)
    linear, noise = _Idle(p.model.blocks[0]), _Idle(p.model.blocks[1])
    w = torch.randn(d, d, generator=generator) / d**0.5
    linear.ffn = lambda x, ctx, past=None: (x @ w, None)
    noise.ffn = lambda x, ctx, past=None: (torch.randn(x.shape, generator=generator), None)
    model = p.model.with_blocks([linear, noise, _Idle(p.model.blocks[2])])
    fitted, measured = [documents(model, 60, 0)], [documents(model, 12, 1)]
    table = linear_residual(model, fitted, measured, [(0, 1), (1, 1)]).set_index("start")
    assert table.loc[0, "ci_high"] < 1e-4
    assert 1 < table.loc[1, "ci_low"] < table.loc[1, "ci_high"] < 1.2, "a map fitted to noise is worse than none"
    damped = residuals(model, *measured[0][1:3], fit_maps(model, [fitted[0][1:3]], [(0, 1)], damping=1e9))
    assert np.allclose(damped["residual"], damped["change"]), "a large damping is a removal"


def test_bad_input() -> None:
    p = pair("tiny")
    with pytest.raises(StrataError, match="39 tokens fit any linear map of 48 dimensions"):
        fit_maps(p.model, [(p.documents[0], torch.tensor([40]))], [(0, 1)])
    with pytest.raises(StrataError, match=r"no span of 3 blocks from block 1 on: .* has blocks 0 to 2"):
        fit_maps(p.model, [(p.ids, p.lengths)], [(1, 3)])
    batch = documents(p.model, 3, 0)
    with pytest.raises(StrataError, match="3 documents are fitted and measured"):
        linear_residual(p.model, [batch], [batch], [(0, 1)])


def test_study_has_one_row_for_every_span(tmp_path) -> None:
    p = pair("stories260K")
    (tmp_path / "text.txt").write_text("\n".join(f"Once upon a time there was a cat number {i} that ran home." for i in range(4000)))
    text = Text(corpus=str(tmp_path / "text.txt"), split=None, window=24, documents=12)
    table = SpanStudy(p.model, text).run(tmp_path / "run")
    assert len(table) == 2 * 15
    assert (table["ci_low"] <= table["value"]).all()
    assert set(table["n_tokens"]) == {12, 12 * 25}, "one token of each document, or all with the BOS"
    again = pd.read_csv(tmp_path / "run" / "summary.csv")
    assert np.allclose(again["value"], table["value"])
    least = straightest(table).set_index("length")
    last = table[table["metric"] == "angular_last"]
    assert least.index.tolist() == [1, 2, 3, 4, 5]
    for length, rows in last.groupby("length"):
        assert least["value"][length] == rows["value"].min()
