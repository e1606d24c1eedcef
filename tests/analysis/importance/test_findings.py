"""Orders, spans and tokens in words: what was planted is said, noise is called noise, and too little data is named."""

import numpy as np
import pandas as pd
import pytest

from analysis.importance import findings
from analysis.stats.intervals import Interval
from analysis.stats.rank_agreement import stability

BLOCKS = list(range(24))


def test_overlap_names_the_metric_that_was_planted():
    said = findings.overlap(BLOCKS, {"good": [3, 1, 2, 0, 5, 4, *BLOCKS[6:]], "bad": BLOCKS[::-1]}, 6, n_documents=40)
    assert said == (
        "Blocks 0, 1, 2, 3, 4 and 5 cost least when removed alone. Of these 6, each metric removes among its first 6: good 6, bad 0 "
        "(by chance 1.50). Significantly better than chance: good."
    )
    one = findings.overlap([0, 1, 2], {"good": [0, 1, 2]}, 1, n_documents=40)
    assert one.startswith(
        "Block 0 costs least when removed alone. Of these 1, each metric removes among its first 1: good 1 (by chance 0.333). "
        "Of 1 metric, none"
    )


def test_overlap_of_random_orders_is_chance():
    """Seven metrics that know nothing: one of them may look good, and in 95 % of all cases nothing is claimed."""
    rng = np.random.default_rng(0)
    said = [findings.overlap(BLOCKS, {str(i): rng.permutation(24).tolist() for i in range(7)}, 6, n_documents=40) for _ in range(60)]
    assert sum("none is significantly better than chance" in s for s in said) >= 55


def test_overlap_of_too_few_documents():
    said = findings.overlap(BLOCKS, {"good": BLOCKS}, 6, n_documents=5)
    assert "Whether the metrics find the same is not known: too few documents for an interval (5 of at least 12)." in said
    assert "chance" not in said


def orders(noise: float, samples: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return stability({str(i): np.arange(24) + noise * rng.normal(size=24) for i in range(samples)}, 6)


def test_stability():
    same = findings.stability(orders(0.1), "BI", 24)
    assert same.startswith("Any two samples of calibration text share 100 % of the first 6 blocks by BI on average (25 % by chance)")
    assert same.endswith("with a Kendall's tau of at least 1.00: the order hardly depends on the sample.")
    assert "depends in part on the sample" in findings.stability(orders(3), "BI", 24)
    assert "no more than random orders of 24 blocks" in findings.stability(orders(1000), "BI", 24)
    assert "there is only one sample" in findings.stability(orders(1, samples=1), "BI", 24)
    elsewhere = findings.stability(orders(3), "BI", 24, "corpus")
    assert elsewhere.startswith("Any two corpora share")
    assert elsewhere.endswith("depends in part on the corpus.")


def test_stability_of_few_blocks_claims_nothing():
    """Three blocks have the same order by chance in one of three cases."""
    said = findings.stability(stability({"a": np.arange(3), "b": np.arange(3)}, 1), "BI", 3)
    assert "the first block by BI" in said
    assert "no more than random orders of 3 blocks" in said


def spans(values: list[float], half: float = 0.005, length: int = 8, documents: int = 40) -> pd.DataFrame:
    rows = pd.DataFrame({"start": range(len(values)), "length": length, "metric": "angular_last", "value": values})
    few = documents < 12
    return rows.assign(ci_low=None if few else rows["value"] - half, ci_high=None if few else rows["value"] + half, n_documents=documents)


def test_straightest():
    said = findings.straightest(spans([0.3, 0.2, 0.1]), 8)
    assert said == (
        "Of all spans of 8 blocks, blocks 2 to 9 turn the residual stream of the last token least: by 0.100 of a half turn "
        "(95\u00a0% interval 0.0950 to 0.105). Every other one turns it more."
    )
    noise = findings.straightest(spans([0.3, 0.105, 0.1, 0.101]), 8)
    assert noise.endswith("By their intervals others may turn it as little: the spans from blocks 1 and 3.")
    single = findings.straightest(spans([0.1, 0.105, 0.3], length=1), 1)
    assert "Of all single blocks, block 0 turns the residual stream" in single
    assert single.endswith("By their intervals others may turn it as little: block 1.")
    few = findings.straightest(spans([0.3, 0.1], documents=3), 8)
    assert few.endswith(
        "by 0.100 of a half turn. Whether others turn it as little is not known: too few documents for an interval (3 of at least 12)."
    )


def maps(*bounds: tuple[float, float] | None, documents: int = 40) -> pd.DataFrame:
    low, high = zip(*(b or (np.nan, np.nan) for b in bounds), strict=True)
    lengths = [2**i for i in range(len(bounds))]
    return pd.DataFrame({"start": 3, "length": lengths, "value": 0.5, "ci_low": low, "ci_high": high, "n_documents": documents})


def test_linear():
    said = findings.linear(maps((0.1, 0.2), (0.3, 0.4), (0.6, 0.7), (1.1, 1.2)), 5000, 576)
    assert said == (
        "A linear map does more than half of the work of block 3 and blocks 3 to 4. "
        "A linear map does some of the work of blocks 3 to 6, but not shown to be half of it. "
        "A linear map in place of blocks 3 to 10 is no better than plain removal."
    )
    assert findings.linear(maps((0.1, 0.2)), 5000, 576) == "A linear map does more than half of the work of block 3."
    assert (
        findings.linear(maps((0.9, 1.1), None), 5000, 576)
        == "Whether a linear map does any of the work of block 3 and blocks 3 to 4 is not known."
    )
    assert "is not known: too few documents" in findings.linear(maps((0.1, 0.2), documents=5), 5000, 576)
    assert "is not known: 700 tokens are too few for maps of 576 dimensions" in findings.linear(maps((0, 1))[:0], 700, 576)


@pytest.mark.parametrize(
    ("gain", "says"),
    [
        (
            Interval(0.1, 0.05, 0.2),
            "agrees significantly better with the rise in loss: tau is higher by 0.100 (0.0500 to 0.200).",
        ),
        (Interval(-0.1, -0.2, -0.05), "agrees significantly worse with the rise in loss: tau is lower by 0.100 (0.0500 to 0.200)"),
        (
            Interval(0.1, -0.05, 0.2),
            "the agreement with the rise in loss does not change significantly: tau by 0.100 (−0.0500 to 0.200)",
        ),
        (Interval(0.1, None, None), "Whether the first token matters is not known: too few documents for an interval (5 of at least 12)."),
    ],
)
def test_first_token(gain, says):
    few = gain.low is None
    tau = Interval(0.8, None, None) if few else Interval(0.8, 0.7, 0.9)
    said = findings.first_token(tau, gain, "BI", n_documents=5 if few else 40)
    assert said.startswith("Kendall's tau between the orders by BI with and without the first token of each document is 0.800")
    assert says in said
