"""A sweep with control variates against its parts, put together by hand from a sweep, gradients and the estimator."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import strata
from adapters import Ablation, BlockModel, load
from analysis.control import pilot
from analysis.control.covariates import first_order, sizes
from analysis.control.study import ControlledSweep
from analysis.data.batches import Text, encode, tokenizer_of
from analysis.engine.ablations import single_ablations
from analysis.engine.plan import plan
from analysis.engine.sweep import sweep
from analysis.metrics.taylor import taylor
from analysis.runs.sweep_run import SweepStudy
from tests.reference import control_variates as reference

SWEPT, WINDOW, SEED = 12, 24, 1


@pytest.fixture(scope="module", params=["zoo-llama-0", "zoo-rwkv5-0"])
def model(request: pytest.FixtureRequest) -> BlockModel:
    return load(request.param, device="cpu", dtype="float32")


def study_of(model: BlockModel, *kinds: str, documents: int = SWEPT, **options: Any) -> ControlledSweep:
    text = Text(window=WINDOW, documents=documents, seed=SEED)
    return ControlledSweep(SweepStudy.of(model, single_ablations(model.spec, kinds, options.pop("edits", ["zero"])), text, **options))


def column(table: pd.DataFrame, metric: str, kind: str = "heads") -> pd.DataFrame:
    return table[(table["metric"] == metric) & (table["kind"] == kind)]


def test_from_its_parts(model: BlockModel, tmp_path: Path) -> None:
    study = study_of(model, "heads", kl=False)
    table = study.run(tmp_path)
    n = json.loads((tmp_path / "manifest.json").read_text())["control"]["gradients"]
    assert n == 5 * SWEPT
    windows = Text(window=WINDOW, documents=n + pilot.DOCUMENTS, seed=SEED).windows(model)
    estimated = [*windows[:SWEPT], *windows[SWEPT + pilot.DOCUMENTS :]]  # without those of the pilot
    batch = encode(estimated, tokenizer_of(model))
    heads = single_ablations(model.spec, ["heads"])
    found = sweep(model, plan(model.spec, heads), batch.ids[:SWEPT], batch.lengths[:SWEPT], first=batch.first[:SWEPT], kl=False)["nll"]
    rises, scale = (found[1:] - found[0]).numpy(), 1.0 if model.spec.family == "llama" else 0.95
    effects = taylor(model, batch.ids, batch.lengths, kinds=["heads"], signed=True, scale=scale, first=batch.first)
    values = column(table, "delta_nll")
    p = []
    for row in (0, 17, 40, 47):
        g = reference.clip(effects[row].tolist(), batch.tokens.tolist(), 15)
        expected = reference.estimate(rises[row].tolist(), batch.tokens.tolist(), [g])
        for name, value in zip(("value", "ci_low", "ci_high"), expected[:3], strict=True):
            assert values[name].iloc[row] == pytest.approx(value, rel=1e-3, abs=1e-6)
        p.append(expected.p)
        assert column(table, "variance_left")["value"].iloc[row] == pytest.approx(expected.left, rel=1e-2)
    found_p = column(table, "p_value")["value"].to_numpy()
    assert found_p[[0, 17, 40, 47]] == pytest.approx(p, rel=2e-2)
    adjusted = column(table, "p_adjusted")["value"].to_numpy()
    assert adjusted == pytest.approx(stats.false_discovery_control(found_p), rel=1e-9)
    assert (column(table, "significant")["value"].to_numpy() == (adjusted <= 0.05)).all()

    plain = SweepStudy.of(model, heads, study.text, kl=False).run(tmp_path / "plain")
    ends = ["value", "ci_low", "ci_high"]
    assert np.allclose(column(table, "delta_nll_plain")[ends], column(plain, "delta_nll")[ends], rtol=1e-6)
    assert np.allclose(column(table, "ppl")[ends], column(plain, "ppl")[ends], rtol=1e-6)
    width = (values["ci_high"] - values["ci_low"]).to_numpy() / (column(plain, "delta_nll")[ends] @ [0, -1, 1]).to_numpy()
    assert np.median(width) < 0.8


def test_sizes_of_blocks_and_ffns_from_24_documents_on(tmp_path: Path) -> None:
    model = load("zoo-llama-0", device="cpu", dtype="float32")
    parts = [*single_ablations(model.spec, ["blocks"])[:8], *single_ablations(model.spec, ["heads"])]
    text = Text(window=WINDOW, documents=24, seed=SEED)
    study = ControlledSweep(SweepStudy.of(model, parts, text, kl=False))
    found = study.outcome(tmp_path)
    assert found.sized == ["blocks"]
    assert "size" in found.sentence
    n = json.loads((tmp_path / "manifest.json").read_text())["control"]["gradients"]
    windows = replace(text, documents=n + pilot.DOCUMENTS).windows(model)
    batch = encode([*windows[:24], *windows[24 + pilot.DOCUMENTS :]], tokenizer_of(model))
    nll = sweep(model, plan(model.spec, parts), batch.ids[:24], batch.lengths[:24], first=batch.first[:24], kl=False)["nll"]
    rises, effects = (nll[1:] - nll[0]).numpy(), first_order(model, parts, batch)
    large = sizes(model, parts[:8], batch)
    for kind, row, covariates in (
        ("blocks", 3, [effects[3], large[3]]),
        ("blocks", 7, [effects[7], large[7]]),
        ("heads", 9, [effects[9]]),
    ):
        clipped = [reference.clip(g.tolist(), batch.tokens.tolist(), 15) for g in covariates]
        expected = reference.estimate(rises[row].tolist(), batch.tokens.tolist(), clipped)
        values = column(found.table, "delta_nll", kind)[["value", "ci_low", "ci_high"]].iloc[row % 8 if kind == "blocks" else row - 8]
        assert values.to_numpy() == pytest.approx(expected[:3], rel=1e-3, abs=1e-6)
    assert not ControlledSweep(replace(study.sweep, text=replace(text, documents=23))).sized
    of_rwkv = load("zoo-rwkv5-0", device="cpu", dtype="float32")
    assert not study_of(of_rwkv, "blocks", documents=24).sized


def test_a_size_is_a_sum_over_tokens() -> None:
    model = load("zoo-llama-0", device="cpu", dtype="float32")
    batch = encode(Text(window=WINDOW, documents=3).windows(model), tokenizer_of(model))
    batch = batch._replace(lengths=torch.tensor([WINDOW, 5, 9]), ids=batch.ids[:, :WINDOW])
    found = sizes(model, [Ablation(blocks={2}), Ablation(ffns={2}), Ablation(blocks={2}, ffns={3})], batch)
    for document, length in enumerate(batch.lengths.tolist()):
        kept: dict[int, tuple[torch.Tensor, ...]] = {}
        model.stream(batch.ids[document : document + 1, :length], tap=lambda i, p, kept=kept: kept.update({i: (p.x_in, p.x_mid, p.x_out)}))
        expected = [0.0, 0.0, 0.0]
        for t in range(length):
            block = [x[0, t].double() for x in kept[2]]
            ffn = [x[0, t].double() for x in kept[3]]
            of_block, of_ffn = block[2] - block[0], block[2] - block[1]
            expected[0] += float((of_block @ of_block) / (block[2] @ block[2]))
            expected[1] += float((of_ffn @ of_ffn) / (block[2] @ block[2]))
            expected[2] += float((ffn[2] - ffn[1]) @ (ffn[2] - ffn[1]) / (ffn[2] @ ffn[2]))
        expected[2] += expected[0]
        assert found[:, document] == pytest.approx(expected, rel=1e-4)


def test_goes_on_from_what_is_there(tmp_path: Path) -> None:
    model = load("zoo-llama-0", device="cpu", dtype="float32")
    heads = single_ablations(model.spec, ["heads"])[:6]
    text = Text(window=WINDOW, documents=SWEPT)
    SweepStudy.of(model, heads, text, kl=False).run(tmp_path)
    study = ControlledSweep(SweepStudy.of(model, heads, text, kl=False))
    first = study.run(tmp_path)
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    records = [json.loads(line) for line in (tmp_path / "scores").glob("*.jsonl").__next__().read_text().splitlines() if line]
    dense = [d for record in records if {} in record["ablations"] for d in record["documents"]]
    assert len(dense) == len(set(dense)) == SWEPT + pilot.DOCUMENTS, "no document is swept twice"
    pd.testing.assert_frame_equal(study.run(tmp_path), first)
    assert kept == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert study.sweep.planned(tmp_path) == SWEPT, "a pilot is no question of its own"


def test_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model, text = load("zoo-llama-0", device="cpu", dtype="float32"), Text(window=WINDOW, documents=SWEPT)
    found = strata.sweep(model, single_ablations(model.spec, ["heads"])[:8], text, kl=False, control=True)
    assert len(column(found.table, "delta_nll_plain")) == 8
    assert found.per_document("delta_nll").shape == (SWEPT, 9)
    again = strata.read_run(found.folder)
    assert SWEPT < again.manifest["control"]["gradients"] <= 5 * SWEPT
    assert again.plot()


def test_kinds_together_and_means_apart(tmp_path: Path) -> None:
    model = load("zoo-llama-0", device="cpu", dtype="float32")
    text = Text(window=WINDOW, documents=SWEPT)
    chosen = [*single_ablations(model.spec, ["mixers", "heads"])[:24], *single_ablations(model.spec, ["mixers"], ["mean"])[:3]]
    study = ControlledSweep(SweepStudy.of(model, chosen, text, kl=False, calibration=text.calibration(model)))
    found = study.outcome(tmp_path)
    means = found.table[found.table["ablation"].str.endswith("(mean)")]
    assert "delta_nll_plain" not in set(means["metric"])
    assert set(found.controlled) == {"mixers", "heads"}
    for kind in found.controlled:
        assert f"% for {kind}" in found.sentence
    assert "12 documents swept, gradients on 60 documents" in found.sentence
    values = found.table[found.table["metric"] == "delta_nll"]["value"].to_numpy()[1:]
    assert found.rises.sum(-1) / found.sums["tokens"].sum() == pytest.approx(values, rel=1e-9)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"documents": 11}, "11 documents are too few for a slope, which takes 12"),
        ({"edits": ["mean"]}, "gradients are of blocks, mixers, ffns and heads that leave nothing behind"),
        ({"documents": 1000}, "documents, and a pilot and gradients take 2012"),
    ],
)
def test_plain_with_the_reason(options: dict[str, Any], why: str, tmp_path: Path) -> None:
    model = load("zoo-llama-0", device="cpu", dtype="float32")
    if options.get("edits"):
        options = options | {"calibration": Text(window=WINDOW, documents=SWEPT).calibration(model)}
    study = study_of(model, "blocks", kl=False, **options)
    if study.text.documents == 1000:
        assert why in study.announced["plain"]
        return
    study = replace(study, sweep=replace(study.sweep, plan=plan(model.spec, study.plan.ablations[:3])))
    found = study.outcome(tmp_path / "a")
    assert why in found.plain
    assert why in found.sentence
    assert why in study.announced["plain"]
    pd.testing.assert_frame_equal(found.table, study.sweep.run(tmp_path / "b"))
    assert json.loads((tmp_path / "a" / "manifest.json").read_text())["control"]["plain"] == found.plain


def test_an_architecture_without_gradients(tmp_path: Path) -> None:
    dense = load("zoo-llama-0", device="cpu", dtype="float32")
    model = dense.with_blocks(dense.blocks)
    begin = model.begin
    model.begin = lambda ids, **options: (lambda x, ctx: (x.detach(), ctx))(*begin(ids, **options))  # type: ignore[method-assign]
    found = study_of(model, "heads", kl=False).outcome(tmp_path)
    assert found.plain == "no gradient goes through this architecture"
    assert "delta_nll_plain" not in set(found.table["metric"])


def test_groups_and_sets_are_sums_of_their_parts() -> None:
    model = load("zoo-llama-0", device="cpu", dtype="float32")
    batch = encode(Text(window=WINDOW, documents=3).windows(model), tokenizer_of(model))
    heads, mixer = [Ablation(heads={(1, h)}) for h in range(2)], Ablation(mixers={4})
    together = first_order(model, [heads[0] | heads[1] | mixer], batch)
    assert together == pytest.approx(first_order(model, [*heads, mixer], batch).sum(0, keepdims=True), rel=1e-9)
