"""The report on one model: its numbers against what they stand for, on random weights, and without heads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.redundancy.findings import FLOPS, PARAMETERS
from analysis.redundancy.study import Redundancy, at_equal
from analysis.removal.savings import Curve
from tests.analysis.test_notebooks_on_variants import folder, run, saved  # noqa: F401  # a fixture
from tests.reference.models import save_reader
from tests.reference.variants import BLOCKS

TOKENS = np.full(24, 100.0)


def curve(slope: float, noise: float = 0.0, seed: int = 0) -> Curve:
    """The loss of 24 documents of 100 tokens rises by `slope` for all that can be saved."""
    shares, rng = np.linspace(0, 0.5, 6), np.random.default_rng(seed)
    nll = (slope * shares[:, None] + noise * rng.normal(size=(6, 24))) * TOKENS
    return Curve({PARAMETERS: shares, FLOPS: shares / 2}, nll, TOKENS)


def test_depth_against_width_where_both_save_as_much() -> None:
    found = at_equal({"blocks": curve(1.0), "heads": curve(2.0)})
    assert {point.cheaper for point in found} == {"depth"}
    at = {round(point.share, 2): point for point in found if point.measure == PARAMETERS}
    assert min(at) == 0.1
    assert max(at) == 0.5
    assert at[0.3].depth.value == pytest.approx(0.3)
    assert at[0.3].width.value == pytest.approx(0.6)
    assert max(point.share for point in found if point.measure == FLOPS) == 0.24
    assert at_equal({"blocks": curve(1.0)}) == ()


def test_noise_is_cheaper_nowhere() -> None:
    found = at_equal({"blocks": curve(0.0, 0.1), "heads": curve(0.0, 0.1, seed=1)})
    assert {point.cheaper for point in found} == {""}


def test_random_weights(tmp_path: Path) -> None:
    """They know less of text than how often its bytes come, and nothing follows from what their parts cost."""
    text = tmp_path / "text.txt"
    text.write_text("".join(f"Line {i}: {i} times {i} is {i * i}.\n" for i in range(4000)))
    save_reader(tmp_path / "model", num_hidden_layers=4)
    given = {"corpus": str(text), "documents": 12, "window": 24, "device": "cpu", "out": str(tmp_path / "runs")}
    study = run("redundancy", model=str(tmp_path / "model"), **given)["study"]
    assert isinstance(study, Redundancy)
    assert study.findings.gain is not None
    assert study.findings.gain.value < 0
    assert "is not known: it predicts the text no better" in study.conclusion
    assert study.findings.heads is not None
    assert study.findings.heads[1] == sum(block.n_heads or 0 for block in study.model.spec.blocks)
    assert study.findings.measured_up_to == 3, "two thirds of four blocks, rounded up"
    check_explored(study)


def check_explored(study: Redundancy) -> None:
    """What readers pick from: parts that make up the blocks, orders of measured sets, and losses as they were summed."""
    found, n = study.explored, study.n_blocks
    assert sum(found.parts[f"blocks {i}"] for i in range(n)) == pytest.approx(1)
    assert found.parts["mixers 0"] + found.parts["ffns 0"] == pytest.approx(found.parts["blocks 0"])
    (reading,) = found.readings
    assert f"{study.n_documents} documents" in reading.text
    sets = {one.out: one for one in reading.sets}
    assert set(found.parts) <= set(sets), "every part was measured alone"
    assert {out for order in reading.orders for out in order.outs} <= set(sets)
    assert "one-shot nll" in [order.title for order in reading.orders]
    nll, tokens = study.depth.nll, study.depth.nll_tokens
    assert sets["blocks 0"].rise.value == pytest.approx((nll[1] - nll[0]).sum() / tokens.sum())
    assert sets["blocks 0"].significant is not None


def test_without_heads(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    source = saved("rwkv-4", folder, tmp_path)
    names = run("redundancy", model=str(source), corpus=str(folder / "text.txt"), documents=12, device="cpu", out=str(tmp_path / "runs"))
    study = names["study"]
    assert isinstance(study, Redundancy)
    found = study.findings
    assert (found.architecture, found.n_blocks, found.heads, found.against) == ("RWKV", BLOCKS, None, ())
    assert found.why("against") == "it has no heads"
    assert study.no_heads == "the model has none"
