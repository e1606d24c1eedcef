"""The ranking study joins what other modules measure: same runs, same numbers, on every architecture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from adapters import BlockModel, StrataError, load
from adapters.families.rwkv.tokenizers import ByteTokenizer
from analysis.data.batches import batches
from analysis.depth.study import depth
from analysis.importance.results import EFFECTS, Ranking
from analysis.importance.study import ranking
from analysis.metrics.linear_fit import fit_maps, residuals
from analysis.metrics.metrics import METRICS
from analysis.runs.budgets import Budget
from analysis.runs.settings import RunConfig
from analysis.stats.rank_agreement import removal_order
from tests.reference import baichuan
from tests.reference.models import save_reader
from tests.reference.rwkv_checkpoints import random_checkpoint

STREAM = ("bi", "relative_magnitude", "norm", "l2")  # metrics that differ from text to text
BUDGET = Budget(window=20, documents=14, seconds=None)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ranking") / "text.txt"
    path.write_text("".join(f"Line {i}: {i} times {i} is {i * i}, cafe {i % 7}.\n" for i in range(6000)))
    return str(path)


def llama(folder: Path) -> BlockModel:
    save_reader(folder, num_hidden_layers=4)
    return load(folder, device="cpu", dtype="float32")


def rwkv_4(folder: Path) -> BlockModel:
    torch.save(random_checkpoint("4", blocks=4, vocab=300), folder / "tiny.pth")
    return load(folder / "tiny.pth", device="cpu", dtype="float32")


def baichuan_13b(folder: Path) -> BlockModel:
    baichuan.save(folder, *baichuan.tiny(vocab_size=258, num_hidden_layers=4, **baichuan.KINDS["baichuan-13b"]))
    return load(folder, device="cpu", dtype="float32")


@pytest.fixture(scope="module", params=[llama, rwkv_4, baichuan_13b], ids=lambda make: make.__name__)
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, corpus: str) -> tuple[Ranking, Path]:
    make: Callable[[Path], BlockModel] = request.param
    folder = tmp_path_factory.mktemp(make.__name__)
    model = make(folder)
    model.tokenizer = model.tokenizer or ByteTokenizer()
    other = folder / "words.txt"
    other.write_text("".join(f"{i} green bottles hanging on the wall, and if {i % 13} should fall.\n" for i in range(4000)))
    return ranking(model, RunConfig(BUDGET, folder / "runs", corpus, 14), others=[str(other)]), folder / "runs"


def test_every_score_of_every_kind(study: tuple[Ranking, Path]) -> None:
    found, _ = study
    assert set(found.scores) == {"blocks", "mixers", "ffns"}
    for kind, scores in found.scores.items():
        assert set(scores) == {*METRICS, "taylor", *EFFECTS}
        for name, s in scores.items():
            rows = found.table[(found.table["kind"] == kind) & (found.table["metric"] == name)].sort_values("block")
            assert rows["block"].tolist() == [0, 1, 2, 3]
            assert rows["value"].to_numpy() == pytest.approx(s.means(s.all), rel=1e-9)


def test_the_sweep_is_that_of_depth(study: tuple[Ranking, Path], corpus: str) -> None:
    found, runs = study

    def swept() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in runs.glob("*/scores/*.jsonl") if b'"nll"' in path.read_bytes()}

    before = swept()
    assert len(before) == 1
    beside = depth(found.model, RunConfig(BUDGET, runs, corpus, 14))
    assert swept() == before, "nothing is scored twice"
    rises = found.blocks["delta_nll"]
    assert np.array_equal(rises.sums, beside.nll[1:5] - beside.nll[0])
    assert found.blocks["bi"].sums == pytest.approx(beside.bi, rel=1e-5)


def test_a_second_run_measures_nothing_anew(study: tuple[Ranking, Path], corpus: str) -> None:
    found, runs = study
    before = {path: path.read_bytes() for path in runs.rglob("*.jsonl")}
    again = ranking(found.model, RunConfig(BUDGET, runs, corpus))
    assert before == {path: path.read_bytes() for path in runs.rglob("*.jsonl")}
    assert again.text.documents == 14, "as many as were asked for before"
    assert again.best == found.best


def test_correlations_are_those_of_the_table(study: tuple[Ranking, Path]) -> None:
    found, _ = study
    pairs = len(found.titles) * (len(found.titles) - 1) // 2
    assert len(found.correlations) == 2 * pairs
    means = {found.titles[name]: s.means(s.all) for name, s in found.blocks.items()}
    for a, b, statistic, value, low, high in found.correlations.itertuples(index=False):
        of = stats.kendalltau if statistic == "kendall" else stats.spearmanr
        assert value == pytest.approx(of(means[a], means[b]).statistic, abs=1e-12)
        assert low <= value <= high
    opposite = found.correlations.set_index(["a", "b", "statistic"]).loc[("sequential", "reverse order", "kendall")]
    assert opposite[["value", "ci_low", "ci_high"]].tolist() == [-1, -1, -1]


def test_orders_are_complete(study: tuple[Ranking, Path]) -> None:
    found, _ = study
    assert list(found.orders)[:2] == [found.titles[name] for name in EFFECTS]
    assert all(sorted(order) == [0, 1, 2, 3] for order in found.orders.values())
    assert found.orders["sequential"] == [0, 1, 2, 3]
    assert found.orders["reverse order"] == [3, 2, 1, 0]
    rises = found.blocks["delta_nll"]
    assert found.orders["rise in loss"] == removal_order(rises.sums.sum(1))


def test_the_first_token_is_left_out(study: tuple[Ranking, Path]) -> None:
    """Its own share is what is missing: sums without it and its value add up to the sums with it."""
    found, _ = study
    for name in STREAM:
        whole, rest = found.blocks[name], found.without_first[name]
        assert np.array_equal(whole.tokens - 1, rest.tokens)
        assert (rest.sums < whole.sums).all()
    table, said = found.first_token
    assert table["metric"].tolist() == [found.titles[name] for name in STREAM]
    assert said


def test_samples_are_of_other_text(study: tuple[Ranking, Path]) -> None:
    found, _ = study
    assert len(found.samples) == 2
    for sample in found.samples:
        assert not np.array_equal(sample["bi"].sums, found.blocks["bi"].sums)
    trust = found.trust.set_index("score")
    assert trust["τ of halves"].notna().all()
    assert trust["τ of samples"].notna().sum() == trust["τ of corpora"].notna().sum() == len(STREAM)
    ((name, elsewhere),) = found.corpora.items()
    assert name.endswith("words.txt")
    assert name in found.facts.set_index("").loc["Samples", "measured"]
    here = (
        found.blocks["norm"].sums.sum(1) / found.blocks["norm"].tokens.sum(),
        elsewhere["norm"].sums.sum(1) / elsewhere["norm"].tokens.sum(),
    )
    assert trust.loc["norm", "τ of corpora"] == pytest.approx(stats.kendalltau(*here).statistic)
    assert "Any two corpora share" in found.trusted


def test_linear_maps_of_the_straightest_spans(study: tuple[Ranking, Path]) -> None:
    found, _ = study
    straight, model = found.straight, found.model
    assert straight.maps["length"].tolist() == [1, 2, 4]
    assert straight.tokens >= 2 * model.spec.d_model
    wanted = found.calibration.at_most(-(-8 * model.spec.d_model // 20), model)
    fitted = [(b.ids, b.lengths) for b in batches(wanted.windows(model), model)]
    places = list(zip(straight.maps["start"], straight.maps["length"], strict=True))
    maps = fit_maps(model, fitted, places)
    rests = [residuals(model, b.ids, b.lengths, maps) for b in batches(found.text.windows(model), model)]
    left = sum(r["residual"].sum(1) for r in rests) / sum(r["change"].sum(1) for r in rests)
    assert straight.maps["value"].to_numpy() == pytest.approx(left, rel=1e-6)


def test_tables_and_sentences(study: tuple[Ranking, Path]) -> None:
    found, _ = study
    curve, resolved = found.resolved
    assert curve["documents"].tolist() == [12, 14]
    for said in (found.best, found.overlap, found.trusted, resolved, found.straightest, found.conclusion):
        assert "nan" not in said.lower()
        assert "None" not in said
    for table in (found.facts, found.agreements, found.order_table, found.straight.table):
        assert not table.isna().to_numpy().any()


def test_few_documents_and_few_tokens_claim_nothing(corpus: str, tmp_path: Path) -> None:
    found = ranking(llama(tmp_path), RunConfig(BUDGET, tmp_path / "runs", corpus, 1))
    for said in (found.best, found.overlap, found.trusted, found.resolved[1], found.first_token[1], found.straightest, found.conclusion):
        assert "too few documents" in said
    assert found.straight.maps.empty
    assert (
        "84 tokens are too few" in found.straight.replaceable
        or "tokens are too few for maps of 48 dimensions" in found.straight.replaceable
    )
    assert found.resolved[0].empty


def test_one_block_has_no_order(corpus: str, tmp_path: Path) -> None:
    save_reader(tmp_path, num_hidden_layers=1)
    with pytest.raises(StrataError, match="has one block, and an order needs two"):
        ranking(load(tmp_path, device="cpu", dtype="float32"), RunConfig(BUDGET, tmp_path / "runs", corpus))
    assert not (tmp_path / "runs").exists()
