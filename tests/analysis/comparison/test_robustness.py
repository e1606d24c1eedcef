"""What becomes of a claim under other choices: planted verdicts, and two models of the zoo measured again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from adapters import BlockModel, load
from adapters.catalogue import zoo
from analysis.comparison.claims import Claim, Side
from analysis.comparison.results import Comparison
from analysis.comparison.robustness import MEASURES, Robustness, Trial, claims, greedily, robustness
from analysis.comparison.study import compare
from analysis.data.batches import Text
from analysis.display.sentences import Effect
from analysis.runs.budgets import Budget
from analysis.runs.settings import RunConfig
from analysis.stats.intervals import Interval
from tests.analysis.comparison.test_words import comparison, measured
from tests.shared_data import shared

KEY = ("Llama", "RWKV-5.2", "area")


def trial(name: str, a: float, b: float, significant: bool = True, n: int = 24) -> Trial:
    gap = Effect(Interval(a - b, a - b - 0.01, a - b + 0.01) if n >= 12 else Interval(a - b, None, None), significant, n)
    return Trial(name, {KEY: Claim("area", Side("Llama", (a,)), Side("RWKV-5.2", (b,)), gap)})


def test_claims_that_hold_and_that_do_not() -> None:
    of = comparison({"llama-0": 0.7, "rwkv5-0": 0.5})
    trials = [
        trial("same", 0.6, 0.5),
        trial("weak", 0.6, 0.5, significant=False),
        trial("other", 0.4, 0.5),
        trial("noise", 0.4, 0.5, significant=False),
        trial("few", 0.6, 0.5, n=5),
        Trial("silent", {}),
    ]
    found = Robustness(of, trials)
    (row,) = found.table[found.table["sentence"].str.startswith("Llama loses more")].to_dict("records")
    assert row["holds"] == "1 of 5"
    assert row["does not"] == (
        "the same way, not significant: weak; reversed: other; the other way, not significant: noise; not known: few"
    )
    assert "are significantly reversed under at least one" in found.conclusion
    assert Robustness(comparison(dict.fromkeys(("llama-0", "rwkv5-0"), 0.5)), trials).conclusion.startswith("There is no sentence")


def test_the_same_measurements_give_the_same_claims() -> None:
    of = comparison({"llama-0": 0.7, "llama-1": 0.71, "rwkv5-0": 0.5})
    again = claims(of)
    assert {key: one.holds for key, one in again.items()} == {key: of.claims[key].holds for key in again}
    gini = claims(of, summaries={"effective": MEASURES["Gini coefficient"][1]})
    assert set(gini) == {("Llama", "RWKV-5.2", "effective")}


def test_a_model_without_ffns_and_other_depths_are_left_out_of_what_asks_for_them() -> None:
    mamba = measured("mamba2-0", 0.6)
    alone = replace(mamba, singles={"blocks": mamba.singles["blocks"]})
    of = comparison({"llama-0": 0.7, "rwkv5-0": 0.5, "llama24-0": 0.3}, own=alone)
    ffns = claims(of, summaries={"effective": MEASURES["losses of ffns"][1]})
    assert set(ffns) == {("Llama", "RWKV-5.2", "effective")}, "beside the other there are none"
    divergence = claims(of, summaries={"area": MEASURES["bits per byte"][1]})
    assert {key[:2] for key in divergence} == {("Llama", "RWKV-5.2"), ("Llama", "mamba2-0"), ("RWKV-5.2", "mamba2-0")}


def loader(source: str) -> BlockModel:
    return load(source, device="cpu", dtype="float32")


@pytest.mark.long
@pytest.mark.skipif(len(zoo()) < 2, reason="adapters/zoo holds no models yet: run `make zoo`")
def test_models_are_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path / "cache"))
    config = RunConfig(Budget(24, 12, None), tmp_path / "runs", str(shared("text/books-en/botchan.txt")), 12)
    of = Comparison(compare(["zoo-llama-0", "zoo-rwkv5-0"], loader, {}, config))
    assert of.of.models[0].against is not None, "blocks and heads of as many parameters"
    assert {"heads", "against"} <= set(of.estimates["zoo-llama-0"])
    found = robustness(of, loader, config, windows=(24, 32))
    assert [one.name for one in found.trials] == [*MEASURES, "window of 32 tokens", "greedy removal"]
    (row,) = found.table[found.table["sentence"].str.contains("the loss of .*rwkv5-0 is spread over a larger share of its blocks")].to_dict(
        "records"
    )
    assert row["claimed of"] == "these models"
    assert int(row["holds"].split()[0]) >= 4
    model = loader("zoo-llama-0")
    text = Text(config.corpus, "calibration", 24, 4)
    path = greedily(model, text, replace(config, out=tmp_path / "greedy"))
    assert [len(a.blocks) for a in path] == list(range(1, 13))
