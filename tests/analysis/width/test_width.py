"""Width and depth against width, as the notebooks show them, on models of every kind; and what is said of heads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adapters import NONE, Ablation, StrataError, load
from analysis.data.batches import Text
from analysis.depth.findings import redundancy
from analysis.depth_vs_width.study import DepthWidth, depth_width
from analysis.display.sentences import reliability_sentence
from analysis.engine.plan import Plan
from analysis.runs.budgets import Budget
from analysis.runs.settings import RunConfig
from analysis.runs.sweep_run import sweep_table
from analysis.stats.rank_agreement import Scores, reliability
from analysis.width.study import Width, width
from tests.analysis.test_notebooks_on_variants import folder, run, saved
from tests.reference.models import save_reader, spec
from tests.reference.naive import naive_nll

__all__ = ["folder"]  # the fixture
SMALL = Budget(32, 14, None)


def heads(effects: np.ndarray, *, documents: int = 40, noise: float = 0.02, seed: int = 0) -> str:
    """What is said of heads whose true rises are `effects`."""
    rng = np.random.default_rng(seed)
    tokens = np.full(documents, 100)
    dense = rng.normal(2.8, 0.3, documents) * tokens
    nll = np.vstack([dense, dense + (effects[:, None] + noise * rng.normal(size=(len(effects), documents))) * tokens])
    plan = Plan(spec(len(effects) // 4, 4), (NONE, *(Ablation(heads={(i // 4, i % 4)}) for i in range(len(effects)))), ())
    return redundancy(sweep_table(plan, {"nll": nll, "tokens": tokens, "bytes": 4 * tokens}, Text()), "heads")


def test_what_was_planted_is_said_of_heads() -> None:
    effects = np.zeros(20)
    effects[[3, 9, 14]] = 0.5, 2.0, -0.3
    said = heads(effects)
    assert said.startswith("Removing a single head changes the loss significantly for 3 of 20 heads (false discovery rate 5\u00a0%). ")
    assert "It is not significant for 17 other heads: the intervals reach 0.0" in said
    assert "The loss is lower without head 3.2." in said
    assert "Head 2.1 costs most: +2.0" in said
    effects[3] = 2.0
    assert ", but the interval of 1 other head overlaps with its own." in heads(effects, noise=0.05)


def test_noise_is_no_effect_of_heads() -> None:
    said = [heads(np.zeros(52), seed=seed) for seed in range(20)]
    none = [s for s in said if "significantly for none of the 52 heads" in s]
    assert len(none) >= 18
    assert all("costs most" not in s for s in none)


def test_too_few_documents_for_heads() -> None:
    said = heads(np.array([0, 0.5, 0, 0]), documents=4)
    few = "Whether removing a single head changes the loss is not known: too few documents for an interval (4 of at least 12)."
    assert said.startswith(few)
    assert "without head 0.1" in said


def test_reliability_of_heads() -> None:
    def said(effects: np.ndarray, documents: int = 40) -> str:
        rng = np.random.default_rng(0)
        tokens = rng.integers(80, 120, documents)
        scores = Scores((effects[:, None] + rng.normal(size=(len(effects), documents))) * tokens, tokens)
        return reliability_sentence(reliability(scores, "spearman"), "rank the heads", n_documents=documents, statistic="Spearman's rho")

    assert "hardly depends on the documents" in said(5.0 * np.arange(30))
    assert "most of the order is noise" in said(np.zeros(30))
    assert "is not known: too few documents" in said(np.arange(30), 5)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("width")
    (place / "text.txt").write_text("".join(f"Line {i}: {i} times {i} is {i * i}, café 天 {i % 7}.\n" for i in range(4500)))
    return place


def test_paths_and_single_heads_equal_hugging_face(reader: Path, tmp_path: Path) -> None:
    """Every point of every path, and every head, against a copy of Hugging Face's model without the same heads."""
    reference = save_reader(tmp_path)
    model = load(tmp_path, device="cpu", dtype="float32")
    study = width(model, RunConfig(SMALL, tmp_path / "runs", str(reader / "text.txt"), documents=12))
    from analysis.data.batches import batches

    rows = [(b.ids[i : i + 1, : int(n)]) for b in batches(study.text.windows(model), model) for i, n in enumerate(b.lengths)]

    def nll(ablation: Ablation) -> np.ndarray:
        return np.array([float(naive_nll(reference, row, ablation).sum()) for row in rows])

    dense = nll(Ablation())
    assert np.allclose(study.rises.sums[5], nll(Ablation(heads={(1, 1)})) - dense, atol=1e-3)
    ppl, paired = study.heads("ppl"), study.perplexities
    assert np.allclose(ppl["value"], paired["value"], rtol=1e-9)
    assert (paired["ci_high"] - paired["ci_low"] < ppl["ci_high"] - ppl["ci_low"]).all(), "texts differ more than heads"
    assert set(study.scored.paths) == {"causal", "l2", "bi", "taylor"}
    for path in study.scored.paths.values():
        assert [len(a.heads) for a in path] == [0, 1, 2, 3, 4, 5, 6], "half of 12 heads"
        assert np.allclose([study.scored.nll[path[k]] for k in (0, 3)], [dense, nll(path[3])], rtol=1e-6)
    drawn = study.table.groupby("order")["heads"].apply(list)
    assert all(shares == pytest.approx(np.arange(7) / 12) for shares in drawn)
    assert len(list((tmp_path / "runs").iterdir())) == 3, "sweeps of two texts, and importance"
    again = width(model, RunConfig(SMALL, tmp_path / "runs", str(reader / "text.txt")))
    assert again.text.documents == 12, "as many as were asked for before"


def test_kinds_are_removed_in_the_order_of_calibration(reader: Path, tmp_path: Path) -> None:
    save_reader(tmp_path, num_hidden_layers=4)
    model = load(tmp_path, device="cpu", dtype="float32")
    study = depth_width(model, RunConfig(SMALL, tmp_path / "runs", str(reader / "text.txt"), documents=12))
    assert study.order == "causal"
    assert {kind: curve.shares["block parameters"][-1] >= 0.3 for kind, curve in study.curves.items()} == {
        "blocks": True,
        "mixers": True,
        "ffns": True,
        "heads": True,
    }
    sizes = [curve.shares["block parameters"] for curve in study.curves.values()]
    assert all((np.diff(s) > 0).all() for s in sizes)
    assert len(study.table) == 9
    assert set(study.table["least"]) <= {"blocks", "mixers", "ffns", "heads"}
    hurried = depth_width(model, RunConfig(Budget(32, 14, 1e-9), tmp_path / "more", str(reader / "text.txt")))
    assert hurried.order == "taylor"
    assert hurried.n_documents == 1
    assert "too few documents" in hurried.conclusion


@pytest.mark.parametrize("variant", ["baichuan-13b", "rwkv-7"])
def test_notebooks_on_variants(variant: str, folder: Path, tmp_path: Path) -> None:
    source = saved(variant, folder, tmp_path)
    for notebook, kind in (("width", Width), ("depth_vs_width", DepthWidth)):
        names = run(notebook, model=str(source), corpus=str(folder / "text.txt"), documents=12, device="cpu", out=str(tmp_path / "runs"))
        assert isinstance(names["study"], kind)
        assert names["study"].conclusion


def test_models_without_heads(folder: Path, tmp_path: Path) -> None:
    """Width is refused; depth against width compares what there is."""
    source, corpus = saved("rwkv-4", folder, tmp_path), str(folder / "text.txt")
    model = load(source, device="cpu")
    with pytest.raises(StrataError, match="has no heads: use `kinds` blocks, mixers or ffns"):
        width(model, RunConfig(SMALL, tmp_path / "runs", corpus))
    study = depth_width(model, RunConfig(SMALL, tmp_path / "runs", corpus, documents=12))
    assert list(study.kinds) == ["blocks", "mixers", "ffns"]
    assert "heads" not in study.conclusion
