"""A report says what is there, says that noise is noise, and says when there is too little data."""

import numpy as np
import pandas as pd
import pytest

from adapters.ablation import NONE, Ablation
from analysis.data.batches import Text
from analysis.depth.findings import cheapest, redundancy, resolution
from analysis.display.sentences import agreement_sentence, best_metric, order_sentence, reliability_sentence
from analysis.engine.plan import Plan
from analysis.runs.sweep_run import sweep_table
from analysis.stats.intervals import Interval
from analysis.stats.rank_agreement import Scores, agreement, reliability
from analysis.stats.rank_agreement import resolution as curve_of
from tests.reference.models import spec


def table(effects, documents=40, noise=0.02, seed=0, kind="blocks") -> pd.DataFrame:
    """The table of a sweep whose true rises in nats per token are `effects`."""
    rng = np.random.default_rng(seed)
    tokens = np.full(documents, 100)
    dense = rng.normal(2.8, 0.3, documents) * tokens
    rises = (np.array(effects)[:, None] + noise * rng.normal(size=(len(effects), documents))) * tokens
    nll = np.vstack([dense, dense + rises])
    singles = [Ablation(heads={(i // 2, i % 2)}) if kind == "heads" else Ablation(**{kind: {i}}) for i in range(len(effects))]
    plan = Plan(spec(len(effects), 2), (NONE, *singles), ())
    return sweep_table(plan, {"nll": nll, "tokens": tokens, "bytes": 4 * tokens}, Text())


def test_redundancy_tells_what_was_planted():
    said = redundancy(table([5, 0.5, 0.1, 0, 0.1, 0]))
    assert "Removing a single block changes the loss significantly for 4 of 6 blocks (false discovery rate 5" in said
    assert "It is not significant for blocks 3 and 5: the intervals reach 0.0" in said
    assert "Block 0 costs most: +5.01 nats per token (95\u00a0% interval 5.00 to 5.01), perplexity" in said
    assert "Block 0 (1 of 6) makes up 88 % of the summed rise (at least 87 % by the intervals)." in said


def test_redundancy_of_parts_that_all_matter():
    said = redundancy(table([0.5, 0.5, 0.2, 0.2], kind="mixers"), "mixers")
    assert "Removing a single mixer changes the loss significantly for all 4 mixers" in said
    assert "without mixer 0, but the interval of mixer 1 overlaps with its own." in said
    assert "(2 of 4) make up 72 % of the summed rise" in said


def test_redundancy_says_when_a_loss_falls():
    assert "The loss is lower without block 1." in redundancy(table([0.5, -0.2, 0, 0.3]))
    assert "costs most" not in redundancy(table([0.0, -0.2, 0, 0]))


def test_redundancy_labels_heads():
    assert "It is not significant for 2 other heads: the intervals" in redundancy(table([0.5, 0, 0, 0.2], kind="heads"), "heads")


def test_redundancy_of_equal_losses_names_no_concentration():
    said = redundancy(table([0.5, 0.5, 0.5, 0.5], noise=0.2))
    assert "do not show whether the rise is concentrated" in said


def test_redundancy_supports_nothing_on_noise():
    significant = [redundancy(table(np.zeros(20), seed=seed)) for seed in range(20)]
    silent = [s for s in significant if s.startswith("Removing a single block changes the loss significantly for none of the 20 blocks")]
    assert len(silent) >= 18, "at most 5 % of families may hold a false discovery"
    assert all("no proof that they are redundant" in s and "costs most" not in s for s in silent)


def test_redundancy_of_too_few_documents():
    said = redundancy(table([5, 0.5, 0, 0], documents=4))
    assert "too few documents for an interval (4 of at least 12)" in said
    assert "+5.0" in said
    assert "without block 0" in said
    assert "costs most" not in said


def test_redundancy_claims_nothing_from_a_missing_interval():
    rows = table([5, 0.5, 0, 0])
    rows.loc[rows["block"] == 0, ["ci_low", "ci_high"]] = None
    said = redundancy(rows)
    assert "without block 0, but the intervals of blocks 1, 2 and 3 overlap" in said
    assert "do not show whether the rise is concentrated" in said


def test_redundancy_survives_the_csv(tmp_path):
    before = table([5, 0.5, 0.1, 0, 0.1, 0])
    before.to_csv(tmp_path / "summary.csv", index=False)
    assert redundancy(pd.read_csv(tmp_path / "summary.csv")) == redundancy(before)


def test_redundancy_refuses_other_tables():
    with pytest.raises(ValueError, match="no rows of kind 'ffns'"):
        redundancy(table([1, 1]), "ffns")
    two = pd.concat([table([1, 1]), table([1, 1]).assign(dataset="other")])
    with pytest.raises(ValueError, match="one text at a time"):
        redundancy(two)


@pytest.mark.parametrize(
    ("tau", "expected"),
    [
        (Interval(0.6, 0.5, 0.7), "0.600 over 30 blocks (95\u00a0% interval 0.500 to 0.700). They agree significantly."),
        (Interval(-0.6, -0.7, -0.5), "Their orders are significantly opposed."),
        (Interval(0.3, -0.1, 0.6), "The agreement is not significant: the interval includes zero."),
        (Interval(0.15, 0.1, 0.2), "The agreement is not significant: a random order agrees as well with probability 0.241."),
        (Interval(0.9, None, None), "Whether they agree is not known: too few documents for an interval (5 of at least 12)."),
    ],
)
def test_agreement_sentence(tau, expected):
    documents = 5 if tau.low is None else 40
    assert expected in agreement_sentence(tau, "Block Influence", n_blocks=30, n_documents=documents)


def test_best_metric():
    taus = {"bi": Interval(0.6, 0.5, 0.7), "l2": Interval(0.5, 0.4, 0.6), "norm": Interval(-0.2, -0.3, 0)}
    clear, open_ = Interval(0.1, 0.05, 0.2), Interval(0.1, -0.05, 0.2)
    norm = Interval(0.8, 0.6, 0.9)
    assert "significantly higher than every other (l2 and norm)" in best_metric(taus, {"l2": clear, "norm": norm}, n_documents=40)
    assert ", but not significantly higher than l2." in best_metric(taus, {"l2": open_, "norm": norm}, n_documents=40)
    none = {name: Interval(tau.value, None, None) for name, tau in taus.items()}
    assert "too few documents for an interval (5 of at least 12)" in best_metric(
        none, {"l2": none["l2"], "norm": none["norm"]}, n_documents=5
    )
    noise = {"bi": Interval(0.1, -0.2, 0.3), "l2": Interval(0, -0.2, 0.2)}
    assert "No metric agrees significantly with the rise in loss" in best_metric(noise, {"l2": clear}, n_documents=40)
    with pytest.raises(ValueError, match="every other metric"):
        best_metric(taus, {"l2": clear}, n_documents=40)


def simulated(truth, documents=40, seed=0) -> Scores:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(50, 150, documents)
    return Scores((np.asarray(truth)[:, None] + rng.normal(size=(len(truth), documents))) * tokens, tokens)


def test_no_agreement_is_supported_on_noise():
    """Scores that are nothing but noise, of other documents, through the intervals and into the sentence."""
    said = []
    for seed in range(40):
        tau = agreement(simulated(np.zeros(20), seed=seed), simulated(np.zeros(20), seed=seed + 999), paired=False)
        said.append(agreement_sentence(tau, "noise", n_blocks=20, n_documents=40))
    assert sum("is not significant" in sentence for sentence in said) >= 38
    tau = agreement(simulated(np.arange(20)), simulated(np.arange(20), seed=1), paired=False)
    assert "They agree significantly." in agreement_sentence(tau, "truth", n_blocks=20, n_documents=40)


def test_no_agreement_is_supported_between_sharp_orders_that_have_nothing_in_common():
    """Every block is measured without error, and a bootstrap sees nothing but that: the order of blocks is the chance."""
    rng, said = np.random.default_rng(0), []
    for _ in range(40):
        a, b = (simulated(50.0 * rng.permutation(20)) for _ in range(2))
        said.append(agreement_sentence(agreement(a, b, paired=False), "chance", n_blocks=20, n_documents=40))
    assert sum("a random order agrees as well" in s or "includes zero" in s for s in said) >= 36


def test_reliability_sentence():
    truth, noise = (reliability(simulated(effects)) for effects in (np.arange(12), np.zeros(12)))
    assert "(20 each)" in reliability_sentence(truth, "order the blocks by BI", n_documents=40)
    assert "hardly depends on the documents" in reliability_sentence(truth, "order the blocks by BI", n_documents=40)
    assert "most of the order is noise" in reliability_sentence(noise, "order the blocks by BI", n_documents=40)
    few = reliability_sentence(reliability(simulated(np.arange(12), 6)), "order the blocks by BI", n_documents=6)
    assert few == "How consistently documents order the blocks by BI is not known: too few documents for an interval (6 of at least 12)."


def test_order_sentence():
    planted, noise = (curve_of(simulated(effects, 60), [12, 60]) for effects in (3 * np.arange(12), np.zeros(12)))
    assert order_sentence(planted, "BI").endswith("100\u00a0% of all pairs: the order is resolved from 12 documents on.")
    assert (order_sentence(noise, "BI")) == (
        "With 60 documents, 0\u00a0% of the pairs of neighbours in the order by BI differ significantly, and 0\u00a0% of all pairs: "
        "the order is not resolved."
    )
    assert "too few documents (at least 12 are needed)" in order_sentence(planted[:0], "BI")


def test_resolution():
    """Half an interval is t (39 degrees of freedom) times the standard deviation over the root of 40; four times as many halve it."""
    rng = np.random.default_rng(0)
    rng.normal(size=40)  # the dense model's, as in `table`
    half = 2.0227 * 0.02 * np.median(rng.normal(size=(4, 40)).std(1, ddof=1)) / np.sqrt(40)
    said = resolution(table([1, 0.5, 0, 0]), 160)
    assert f"With 40 documents the interval of a block extends {half:.5f} nats" in said
    assert f"160 documents of the same length would narrow that to about {half / 2:.5f}" in said
    assert "would" not in resolution(table([1, 0.5, 0, 0]), 40)
    assert "too few documents" in resolution(table([1, 0.5], documents=4), 160)


def test_cheapest_names_what_was_planted():
    assert "Block 2 costs least when removed alone: +" in cheapest(table([0.9, 0.5, 0.05, 0.8])).replace("\u2212", "-")
    assert "Every other block costs more." in cheapest(table([0.9, 0.5, 0.05, 0.8]))


def test_cheapest_names_all_that_may_be_it_on_noise():
    found = cheapest(table([0.1] * 4, noise=0.2))
    assert "By their intervals others may cost as little: blocks" in found
    assert "Every other" not in found


def test_cheapest_of_too_few_documents():
    assert "too few documents" in cheapest(table([0.9, 0.5, 0.05], documents=5))
