"""A study is a text, a sweep or an importance pass, and one tidy table that anybody can check."""

from __future__ import annotations

import csv
import json
import math
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from adapters import Ablation, BlockModel, StrataError, load
from analysis.data.batches import Text
from analysis.data.documents import Window
from analysis.engine.ablations import single_ablations
from analysis.engine.plan import plan
from analysis.metrics.metrics import METRICS
from analysis.metrics.spans import SpanStudy
from analysis.metrics.study import ImportanceStudy
from analysis.runs.read_run import read_run
from analysis.runs.sweep_run import SweepStudy, sweep_table
from analysis.runs.tables import COLUMNS
from analysis.stats.intervals import differs_from_zero
from tests.reference.hf import observe
from tests.reference.models import save_reader, spec
from tests.reference.naive import naive_nll


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    (folder / "text.txt").write_text("".join(f"Line {i}: {i} times {i} is {i * i}, café 天 {i % 7}.\n" for i in range(6000)))
    return folder


@pytest.fixture(scope="module")
def both(folder: Path) -> tuple[BlockModel, object]:
    reference = save_reader(folder)
    return load(folder, device="cpu", dtype="float32"), reference


def text(folder: Path, documents: int, **options: object) -> Text:
    return Text(**({"corpus": str(folder / "text.txt"), "window": 20, "documents": documents} | options))


def ids_of(window: Window, bos: tuple[int, ...] = (256,)) -> torch.Tensor:
    """What the model reads: see save_reader."""
    tokens = re.findall(rb"Li|.", window.text.encode(), re.DOTALL)
    return torch.tensor([[*bos, *(257 if token == b"Li" else token[0] for token in tokens)]])


def test_table_of_a_sweep(both, folder: Path, tmp_path: Path) -> None:
    """Columns, rows and every number, from Hugging Face's model on the same bytes."""
    model, reference = both
    chosen = [*single_ablations(model.spec, ["blocks", "mixers"]), Ablation(heads={(2, 3)})]
    study = SweepStudy.of(model, chosen, text(folder, 13))
    table = study.run(tmp_path)
    assert list(table) == COLUMNS
    first = ["ppl", "delta_nll", "kl", "bits_per_byte"]
    assert table["metric"].tolist() == first + 7 * ["ppl", "delta_nll", "kl", "p_value", "p_adjusted", "significant"]
    assert table["kind"].tolist() == 4 * ["dense"] + 18 * ["blocks"] + 18 * ["mixers"] + 6 * ["heads"]
    assert table["block"].tolist()[4:] == [b for b in (0, 1, 2, 0, 1, 2, 2) for _ in range(6)]
    assert table["block"].isna().tolist() == 4 * [True] + 42 * [False]
    assert table["head"].dropna().tolist() == [3] * 6
    assert set(table["dataset"]) == {str(folder / "text.txt")}

    windows = study.text.windows(model)
    n_bytes = sum(len(w.text.encode()) for w in windows)
    assert set(table["n_documents"]) == {13}
    n = sum(ids_of(w).shape[1] - 1 for w in windows)
    assert n < n_bytes
    assert set(table["n_tokens"]) == {n}, "with BOS in front every token is scored"
    assert study.identity["text"]["bos"] == 256, "the manifest says which"
    values = table.set_index("metric")["value"]
    sums = [sum(float(naive_nll(reference, ids_of(w), a).sum()) for w in windows) for a in study.plan.ablations]
    assert values["ppl"].to_numpy() == pytest.approx([math.exp(s / n) for s in sums], rel=1e-5)
    assert values["delta_nll"].to_numpy() == pytest.approx([(s - sums[0]) / n for s in sums], abs=1e-5)
    assert values["bits_per_byte"] == pytest.approx(sums[0] / math.log(2) / n_bytes, rel=1e-5)
    assert values["kl"].iloc[0] == pytest.approx(0, abs=1e-5)
    assert (values["kl"].iloc[1:] > 0).all()

    measured = table[table["metric"].isin(["ppl", "delta_nll", "kl"]) & (table["kind"] != "dense")]
    assert (measured["ci_low"] < measured["value"]).all()
    assert (measured["ci_high"] > measured["value"]).all()
    assert table[table["metric"].isin(["p_value", "p_adjusted", "significant"])]["ci_low"].isna().all()
    assert values["significant"].tolist() == (values["p_adjusted"].to_numpy() <= 0.05).tolist()
    assert (values["p_value"].to_numpy() <= values["p_adjusted"].to_numpy()).all()


def test_without_a_bos_token_the_first_token_is_not_scored(folder: Path, tmp_path: Path) -> None:
    reference = save_reader(tmp_path, bos=False)
    model = load(tmp_path, device="cpu", dtype="float32")
    study = SweepStudy.of(model, [], text(folder, 13))
    table = study.run(tmp_path / "run").set_index("metric")
    windows = study.text.windows(model)
    rows = [ids_of(w, bos=()) for w in windows]
    n = sum(row.shape[1] - 1 for row in rows)
    n_bytes = sum(len(w.text.encode()) - (2 if row[0, 0] == 257 else 1) for w, row in zip(windows, rows, strict=True))
    assert n < n_bytes
    assert set(table["n_tokens"]) == {n}
    assert study.identity["text"]["bos"] is None
    nll = sum(float(naive_nll(reference, row, Ablation()).sum()) for row in rows)
    assert table["value"]["ppl"] == pytest.approx(math.exp(nll / n), rel=1e-5)
    assert table["value"]["bits_per_byte"] == pytest.approx(nll / math.log(2) / n_bytes, rel=1e-5)


def test_sets_of_parts_have_rows_of_their_own(both, folder: Path, tmp_path: Path) -> None:
    """What shares a first part with a single removal is neither its row nor in its family, and every set has its loss."""
    model, reference = both
    sets = [Ablation(mixers={1}), Ablation(mixers={1}, ffns={2}), Ablation(blocks={0, 2}), Ablation(blocks={0}, heads={(1, 1)})]
    table = SweepStudy.of(model, sets, text(folder, 12)).run(tmp_path)
    rows = table[table["metric"] == "ppl"].set_index("ablation")
    assert rows["kind"].tolist() == ["dense", "mixers", "set", "set", "set"]
    assert rows.index.tolist() == ["dense", "mixers 1", "mixers 1; ffns 2", "blocks 0, 2", "blocks 0; heads 1.1"]
    assert set(table["model"]) == {model.spec.name}
    windows = text(folder, 12).windows(model)
    tokens = sum(ids_of(w).shape[1] - 1 for w in windows)
    for out in sets:
        nll = sum(float(naive_nll(reference, ids_of(w), out).sum()) for w in windows)
        assert rows.loc[str(out), "value"] == pytest.approx(math.exp(nll / tokens), rel=1e-5)


def test_the_manifest_says_how_text_is_read(folder: Path, tmp_path: Path) -> None:
    """Models that differ in BOS alone have other hashes, and that special tokens are read as text stands there."""
    hashes = []
    for bos in (True, False):
        (tmp_path / str(bos)).mkdir()
        save_reader(tmp_path / str(bos), bos=bos)
        model = load(tmp_path / str(bos), device="cpu", dtype="float32")
        SweepStudy.of(model, [], text(folder, 2)).run(tmp_path / str(bos) / "run")
        said = json.loads((tmp_path / str(bos) / "run" / "manifest.json").read_text())["identity"]["text"]
        assert (said["bos"], said["special_tokens"]) == (256 if bos else None, "text")
        hashes.append(said["tokenizer"])
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize("times", [0, 1])
def test_a_loss_above_guessing_is_said_once_and_noted(times: float, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Random logits are worse than none, which give equal odds."""
    (tmp_path / "doubtful").mkdir()
    reference = save_reader(tmp_path / "doubtful")
    reference.lm_head.weight.data *= times
    reference.save_pretrained(tmp_path / "doubtful")
    model = load(tmp_path / "doubtful", device="cpu", dtype="float32")
    study = SweepStudy.of(model, [], text(folder, 4))
    loss = sum(float(naive_nll(reference, ids_of(w), Ablation()).sum()) for w in study.text.windows(model))
    loss /= sum(ids_of(w).shape[1] - 1 for w in study.text.windows(model))
    study.run(tmp_path / "run")
    study.run(tmp_path / "run")
    said, doubt = capsys.readouterr().err, json.loads((tmp_path / "run/manifest.json").read_text()).get("doubt", "")
    assert bool(doubt) == bool(times)
    if times:
        assert loss > math.log(258)
        assert said.count("worse than guessing among its 258 tokens, which costs 5.55 nats per token") == 1
        assert doubt in said
    else:
        assert loss == pytest.approx(math.log(258))


def test_a_notebook_shows_a_doubt() -> None:
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    from analysis.runs.doubts import say

    InteractiveShell.instance()
    try:
        with capture_output() as shown:
            say("a_model loses more")
            say("a_model loses more")
    finally:
        InteractiveShell.clear_instance()
    assert [output.data["text/markdown"] for output in shown.outputs] == [r"**a\_model loses more**"]


def test_summary_is_the_table(both, folder: Path, tmp_path: Path) -> None:
    table = SweepStudy.of(both[0], single_ablations(both[0].spec, ["blocks"]), text(folder, 12)).run(tmp_path)
    read = pd.read_csv(tmp_path / "summary.csv").astype({"block": "Int64", "head": "Int64", "expert": "Int64"})
    pd.testing.assert_frame_equal(read, table, check_exact=False, rtol=1e-12)
    lines = (tmp_path / "summary.csv").read_text().splitlines()
    assert lines[0] == "model,kind,block,head,expert,ablation,dataset,metric,value,ci_low,ci_high,n_documents,n_tokens"
    assert lines[1].startswith(f"{both[0].spec.name},dense,,,,dense,")
    assert "nan" not in (tmp_path / "summary.csv").read_text().lower()


def test_few_documents_have_no_intervals(both, folder: Path, tmp_path: Path) -> None:
    study = SweepStudy.of(both[0], single_ablations(both[0].spec, ["blocks"]), text(folder, 11))
    table = study.run(tmp_path)
    assert table["ci_low"].isna().all()
    assert table["ci_high"].isna().all()
    assert (table[table["metric"] == "significant"]["value"] == 0).all()
    row = next(csv.DictReader((tmp_path / "summary.csv").open()))
    assert (row["ci_low"], row["ci_high"]) == ("", "")


def test_more_documents_go_on_from_fewer(both, folder: Path, tmp_path: Path) -> None:
    """Only new ones are scored, old records stay as they are, and the table is that of a run of its own."""
    chosen = single_ablations(both[0].spec, ["blocks"])
    small, large = (SweepStudy.of(both[0], chosen, text(folder, n)) for n in (5, 14))
    few, done = small.run(tmp_path / "a"), list[int]()
    (file,) = (tmp_path / "a" / "scores").glob("*.jsonl")
    before = file.read_bytes()
    many = large.run(tmp_path / "a", done.append)
    assert done[0] == 5 * large.steps
    assert sum(done) == 14 * large.steps
    assert file.read_bytes().startswith(before)
    assert file.read_text().count('"documents"') == 2
    pd.testing.assert_frame_equal(many, large.run(tmp_path / "b"), rtol=1e-5, atol=1e-6)
    pd.testing.assert_frame_equal(small.run(tmp_path / "a"), few)
    assert set(small.run(tmp_path / "a")["n_documents"]) == {5}


def test_fewer_documents_do_not_shrink_the_summary(both, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table of what was asked for is returned; the file stays that of all, and says so, whatever kind of study it is of."""
    model, _ = both
    chosen = single_ablations(model.spec, ["blocks"])
    makers = {
        "sweep": lambda n: SweepStudy.of(model, chosen, text(folder, n)),
        "importance": lambda n: ImportanceStudy(model, text(folder, n)),
        "spans": lambda n: SpanStudy(model, text(folder, n)),
    }
    for name, make in makers.items():
        make(14).run(tmp_path / name)
        whole = (tmp_path / name / "summary.csv").read_bytes()
        capsys.readouterr()
        few = make(5).run(tmp_path / name)
        assert set(few["n_documents"]) == {5}
        assert (tmp_path / name / "summary.csv").read_bytes() == whole
        assert capsys.readouterr().err == (
            f"strata: {tmp_path / name}/summary.csv stays as it is: it covers 14 documents, and the 5 that were requested are among them\n"
        )
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        assert manifest["table"]["documents"] == [w.id for w in text(folder, 14, split=make(5).text.split).windows(model)]
        more = make(15).run(tmp_path / name)
        assert set(more["n_documents"]) == {15}
        assert (tmp_path / name / "summary.csv").read_text() == more.to_csv(index=False)
        assert capsys.readouterr().err == ""


def test_a_summary_that_was_changed_or_is_of_others_gives_way_and_that_is_said(
    both, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, _ = both
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("".join(f"Line {i}: {i} times {i} is {i * i}.\n" for i in range(3000)))
    study = SweepStudy.of(model, [], text(tmp_path, 6, corpus=str(corpus)))
    first = study.run(tmp_path / "run")
    (tmp_path / "run" / "summary.csv").write_text("kind,value\n")
    capsys.readouterr()
    assert study.run(tmp_path / "run").equals(first)
    assert (tmp_path / "run" / "summary.csv").read_text() == first.to_csv(index=False)
    corpus.write_text("".join(f"Row {i}: {i} and {i} are {2 * i}.\n" for i in range(3000)))
    second = study.run(tmp_path / "run")
    assert not second.equals(first)
    assert (tmp_path / "run" / "summary.csv").read_text() == second.to_csv(index=False)
    assert "summary.csv covered 6 documents, 6 of them not requested now; it now covers 6\n" in capsys.readouterr().err


def test_a_kill_between_manifest_and_summary_is_mended_by_the_next_run(both, folder: Path, tmp_path: Path) -> None:
    """Also by one whose table is already there: the manifest then tells of a table that was never written."""
    model, _ = both
    study = SweepStudy.of(model, [], text(folder, 3))
    table, out = study.run(tmp_path / "run"), tmp_path / "run"
    study.open(out).note({"table": {"documents": study.documents, "sha256": "0" * 64}})
    study.run(out)
    assert read_run(out).table["value"].tolist() == pytest.approx(table["value"].tolist())


def test_significance_is_decided_within_a_kind() -> None:
    """Each family of ablations has its own false discovery rate: a hundred heads of noise do not hide what one block does."""
    p = plan(spec(2, 50), [Ablation(blocks={0}), *single_ablations(spec(2, 50), ["heads"])])
    rng = np.random.default_rng(0)
    dense = rng.normal(300, 20, 24)
    nll = dense + rng.normal(size=(len(p.ablations), 24))
    nll[0] = dense
    nll[1] += 0.55  # 2.7 standard errors
    table = sweep_table(p, {"nll": nll, "tokens": np.full(24, 100), "bytes": np.full(24, 400)}, Text("corpus"))
    significant = table[table["metric"] == "significant"]
    assert significant[significant["kind"] == "blocks"]["value"].tolist() == [1]
    assert significant[significant["kind"] == "heads"]["value"].sum() == 0
    assert not differs_from_zero(nll[1:] - dense, np.full(24, 100)).significant.any(), "in one family with the heads it would be lost"


def test_another_study_in_the_same_folder_is_refused(both, folder: Path, tmp_path: Path) -> None:
    model, _ = both
    chosen = single_ablations(model.spec, ["blocks"])
    SweepStudy.of(model, chosen, text(folder, 3)).run(tmp_path)
    for other, named in (
        (SweepStudy.of(model, chosen, text(folder, 3, window=21)), "text"),
        (SweepStudy.of(model, chosen, text(folder, 3, seed=1, split="calibration")), "text"),
        (ImportanceStudy(model, text(folder, 3)), "importance"),
    ):
        with pytest.raises(StrataError, match=rf"differs in {named}\)"):
            other.run(tmp_path)


def test_importance_table(both, folder: Path, tmp_path: Path) -> None:
    """BI is a mean over all real tokens, BOS among them."""
    model, reference = both
    study = ImportanceStudy(model, text(folder, 13))
    table = study.run(tmp_path)
    assert list(table) == COLUMNS
    assert table["block"].tolist() == [0, 1, 2]
    assert set(table["kind"]) == {"blocks"}
    assert set(table["metric"]) == {"bi"}
    cosines = []
    for window in study.text.windows(model):
        streams = [x.double() for x in observe(reference, ids_of(window)).streams]
        cosines.append([torch.cosine_similarity(a, b, dim=-1)[0] for a, b in pairwise(streams)])
    expected = [float(1 - torch.cat([document[i] for document in cosines]).mean()) for i in range(3)]
    assert table["value"].to_numpy() == pytest.approx(expected, abs=1e-6)
    assert set(table["n_tokens"]) == {sum(len(c[0]) for c in cosines)}
    assert (table["ci_low"] < table["value"]).all()
    assert np.isfinite(table["ci_high"]).all()


def test_bad_input(both, folder: Path, tmp_path: Path) -> None:
    model, _ = both
    mute = load(folder, device="cpu", dtype="float32")
    mute.tokenizer = None
    for study, message in (
        (SweepStudy.of(model, [], text(folder, 3, window=128)), "a window of 128 tokens is too long for .*, whose context has 128"),
        (SweepStudy.of(model, [], text(folder, 100_000)), "100000 were requested"),
        (SweepStudy.of(mute, [], text(folder, 3)), "comes without a tokenizer"),
        (SweepStudy.of(model, [], text(folder, 3), memory=1 << 10), "needs .* MB"),
        (ImportanceStudy(model, text(folder, 3), ("b",)), "unknown metric 'b'.*valid: " + ".*".join(sorted(METRICS))),
    ):
        with pytest.raises(StrataError, match=message):
            study.run(tmp_path)
    assert not (tmp_path / "summary.csv").exists()
    with pytest.raises(StrataError, match="block 3 is out of range"):
        SweepStudy.of(model, [Ablation(blocks={3})], text(folder, 3))


def test_not_a_number_names_the_document(both, folder: Path, tmp_path: Path) -> None:
    """By its id, in both kinds of study; what was scored before stays."""
    model, _ = both
    windows = text(folder, 5).windows(model)
    rare = next(b for b in windows[3].text.encode() if all(b not in w.text.encode() for w in (*windows[:3], windows[4])))
    broken = model.with_blocks(list(model.blocks))
    broken.weights = model.weights | {"embed": model.weights["embed"].clone()}
    broken.weights["embed"][rare] = float("nan")
    for study in (SweepStudy.of(broken, [], text(folder, 5)), ImportanceStudy(broken, text(folder, 5))):
        with pytest.raises(StrataError, match=f"block 0 .*document {windows[3].document}"):
            study.run(tmp_path / type(study).__name__)


def test_metrics_and_kinds_are_checked(both, folder: Path) -> None:
    model, _ = both
    for metrics, kinds, says in (
        (("tailor",), ("blocks",), "unknown metric 'tailor': did you mean taylor"),
        (("bi",), ("blokcs",), "unknown kind 'blokcs': did you mean blocks"),
        (("taylor", "bi"), ("kv_groups",), "unknown kind 'kv_groups'"),
    ):
        with pytest.raises(StrataError, match=says):
            ImportanceStudy(model, text(folder, 3), metrics, kinds).check()


def test_work_of_a_metric(both, folder: Path) -> None:
    """All forward metrics share one pass without head; Taylor takes a pass with head and twice that backwards."""
    model, _ = both
    blocks = sum(block.flops_per_token for block in model.spec.blocks)
    head = 2 * model.spec.d_model * model.spec.vocab_size
    for metrics, expected in ((("bi", "l2"), blocks), (("taylor",), 3 * (blocks + head)), (("bi", "taylor"), 4 * blocks + 3 * head)):
        assert ImportanceStudy(model, text(folder, 3), metrics).flops_per_token == expected
