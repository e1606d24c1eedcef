"""Decisions that stop early are wrong no more often than stated, at any look and on any ablation; and they save work."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adapters import StrataError, load
from adapters.catalogue import PACKAGES, zoo
from analysis.data.batches import Text
from analysis.engine.ablations import single_ablations
from analysis.runs.sequential import RATE, Outcome, bounds, decide, looks, until_resolved
from analysis.runs.sweep_run import SweepStudy
from tests.reference.models import save_reader

MARGIN, NOISE = 0.01, 0.02


def test_looks_double() -> None:
    assert looks(96) == [12, 24, 48, 96]
    assert looks(60) == [12, 24, 48, 60]
    assert looks(12) == [12]


def simulated(effects: np.ndarray, documents: int, rng: np.random.Generator, level: float | None = None) -> list[str]:
    """Decisions on ablations with true `effects`, with heavy-tailed noise that they share in part; `level` None: the study's."""
    ends = looks(documents)
    tokens = rng.integers(100, 140, documents)
    noise = NOISE * (rng.standard_t(6, (len(effects), documents)) + rng.standard_t(6, documents)) / 1.7
    differences, final = (effects[:, None] + noise) * tokens, ["open"] * len(effects)
    for end in ends:
        each = level or RATE / (len(ends) * len(effects))
        for i, decision in enumerate(decide(differences[:, :end], tokens[:end], MARGIN, each)):
            if final[i] == "open":
                final[i] = decision
    return final


def wrong(effects: np.ndarray, decisions: list[str]) -> bool:
    return any((d == "significant" and e == 0) or (d == "equal" and abs(e) > MARGIN) for e, d in zip(effects, decisions, strict=True))


def test_errors_are_held_over_looks_and_family() -> None:
    effects = np.repeat([0.0, 0.0101, -0.0101, 0.03], 5)
    rng = np.random.default_rng(0)
    corrected = [wrong(effects, simulated(effects, 192, rng)) for _ in range(200)]
    naive = [wrong(effects, simulated(effects, 192, rng, level=RATE)) for _ in range(50)]
    assert np.mean(corrected) <= RATE
    assert np.mean(naive) > 0.5, "without a correction most studies hold an error"


def test_bounds_cover_at_all_looks() -> None:
    rng, effect, missed = np.random.default_rng(1), 0.004, 0
    for _ in range(300):
        tokens = rng.integers(100, 140, 96)
        values = (effect + NOISE * rng.normal(size=(5, 96))) * tokens
        outside = False
        for end in looks(96):
            _, low, high = bounds(values[:, :end], tokens[:end], RATE / (4 * 5))
            outside |= bool(((low > effect) | (high < effect)).any())
        missed += outside
    assert missed / 300 <= RATE


def test_large_and_small_effects_are_resolved() -> None:
    effects = np.array([0.0, 0.0, 0.5, -0.4])
    assert simulated(effects, 384, np.random.default_rng(0)) == ["equal", "equal", "significant", "significant"]
    decided = [simulated(np.array([0.0, 0.5]), 12, np.random.default_rng(s)) for s in range(5)]
    assert all(d == ["open", "significant"] for d in decided), "twelve documents show no equality"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sequential")
    (place / "text.txt").write_text("".join(f"Line {i}: {i} times {i} is {i * i}, café 天 {i % 7}.\n" for i in range(9000)))
    save_reader(place)
    return place


def test_only_open_ablations_go_on(reader: Path, tmp_path: Path) -> None:
    """Of a real sweep: every decision holds on all documents, later looks score less, and a second run scores nothing."""
    model = load(reader, device="cpu", dtype="float32")
    text = Text(corpus=str(reader / "text.txt"), window=24, documents=30)
    study = SweepStudy.of(model, single_ablations(model.spec, ["blocks", "heads"]), text, kl=False)
    seen: list[int] = []
    found = until_resolved(study, 0.01, tmp_path / "run", seen.append)
    assert sum(seen) <= 30
    assert 0 < found.work <= 1
    whole = study.scores(tmp_path / "whole")
    level = RATE / (len(looks(30)) * 15)
    for i, row in enumerate(found.table.to_dict("records"), 1):
        n = row["n_documents"]
        differences = (whole["nll"][i] - whole["nll"][0])[None, :n]
        assert decide(differences, whole["tokens"][:n], 0.01, level) == [row["decision"]]
        value, low, high = bounds(differences, whole["tokens"][:n], level)
        assert [row["value"], row["low"], row["high"]] == pytest.approx([value[0], low[0], high[0]], rel=1e-3, abs=1e-5)
    again = until_resolved(study, 0.01, tmp_path / "run")
    pd.testing.assert_frame_equal(again.table, found.table)
    assert f"{len(found.unresolved)}" == str((found.table["decision"] == "open").sum())


def test_ablations_to_means_may_be_decided_first(reader: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is open then has no mean to leave, and goes on in the same run."""
    model = load(reader, device="cpu", dtype="float32")
    text = Text(corpus=str(reader / "text.txt"), window=24, documents=24)
    both = single_ablations(model.spec, ["blocks"], ["zero", "mean"])
    study = SweepStudy.of(model, both, text, kl=False, calibration=replace(text, split="calibration"))
    whole, n = study.scores(tmp_path / "whole"), len(both) // 2
    rows = iter([["open"] * n + ["equal"] * n, ["open"] * n])
    monkeypatch.setattr("analysis.runs.sequential.decide", lambda *_: next(rows))
    found = until_resolved(study, 0.01, tmp_path / "run").table
    assert found["n_documents"].tolist() == [24] * n + [12] * n
    rises = (whole["nll"] - whole["nll"][0]).sum(1)[1 : n + 1] / whole["tokens"].sum()
    assert found["value"].tolist()[:n] == pytest.approx(rises.tolist(), rel=1e-3, abs=1e-5)


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec(PACKAGES["texts"].module) is None, reason="needs the offline texts: run `strata fetch texts`")
@pytest.mark.skipif("zoo-llama-0" not in zoo(), reason="needs the zoo: run `make zoo`")
def test_decisions_on_a_trained_model_hold_at_four_times_the_tokens(tmp_path: Path) -> None:
    """Other documents, and four times as many: nothing that was told is of the other sign, nothing equal is beyond the margin."""
    model, margin, few = load("zoo-llama-0", device="cpu", dtype="float32"), 0.01, 48
    heads = single_ablations(model.spec, ["heads"])
    study = SweepStudy.of(model, heads, Text(corpus="texts", window=128, documents=few), kl=False)
    found = until_resolved(study, margin, tmp_path / "few").table
    many = SweepStudy.of(model, heads, Text(corpus="texts", window=128, documents=4 * few, seed=1), kl=False)
    sums = many.scores(tmp_path / "many")
    _, low, high = bounds(sums["nll"][1:] - sums["nll"][0], sums["tokens"], RATE / len(heads))
    significant, equal = (found["decision"] == name for name in ("significant", "equal"))
    assert significant.sum() > 10
    assert equal.sum() > 2
    assert not (significant & (found["value"] > 0) & (high < 0)).any()
    assert not (significant & (found["value"] < 0) & (low > 0)).any()
    assert not (equal & ((low > margin) | (high < -margin))).any()


def test_decisions_belong_to_one_margin_and_one_number_of_documents(reader: Path, tmp_path: Path) -> None:
    """Other looks would be more than were planned, and other decisions would take the place of these without a word."""
    model = load(reader, device="cpu", dtype="float32")
    chosen = single_ablations(model.spec, ["blocks"])

    def study(n: int) -> SweepStudy:
        return SweepStudy.of(model, chosen, Text(corpus=str(reader / "text.txt"), window=24, documents=n), kl=False)

    found = until_resolved(study(14), 0.01, tmp_path / "run")
    before = (tmp_path / "run" / "decisions.csv").read_text()
    assert before == found.table.to_csv(index=False)
    for n, margin, says in ((12, 0.01, "documents"), (30, 0.01, "documents"), (14, 0.02, "margin")):
        with pytest.raises(StrataError, match=rf"holds a run of another plan \(it differs in {says}\): give another `out`"):
            until_resolved(study(n), margin, tmp_path / "run")
    assert (tmp_path / "run" / "decisions.csv").read_text() == before


def test_sentence() -> None:
    rows = [
        ("heads", 0, 1, None, "heads 0.1", "significant", 1.0, 0.9, 1.1, 12),
        ("heads", 2, 3, None, "heads 2.3 (mean)", "open", 0.0, -1, 1, 48),
        ("blocks", 4, None, None, "blocks 4", "open", 0, -1, 1, 48),
        ("experts", 1, None, 7, "experts 1.7", "open", 0, -1, 1, 48),
    ]
    table = pd.DataFrame(rows, columns=["kind", "block", "head", "expert", "ablation", "decision", "value", "low", "high", "n_documents"])
    found = Outcome(table.astype({"block": "Int64", "head": "Int64", "expert": "Int64"}), 0.01, 0.4)
    assert found.unresolved == ["heads 2.3 (mean)", "blocks 4", "experts 1.7"]
    assert (
        "1 differ significantly from the unpruned model, 0 equal it within 0.01 nats per token, "
        "unresolved: heads 2.3 (mean), blocks 4, experts 1.7 (errors" in found.sentence
    )
    assert found.sentence.endswith("60 % of the work of all documents for all ablations was saved.")


def test_bad_input(reader: Path, tmp_path: Path) -> None:
    model = load(reader, device="cpu", dtype="float32")
    for documents, margin, says in ((11, 0.01, "at least 12 are needed, that is 288 tokens or more"), (12, 0.0, "must be above zero")):
        text = Text(corpus=str(reader / "text.txt"), window=24, documents=documents)
        with pytest.raises(StrataError, match=says):
            until_resolved(SweepStudy.of(model, single_ablations(model.spec, ["heads"]), text), margin, tmp_path / "run")
