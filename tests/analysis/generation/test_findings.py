"""Sentences on generated text: a planted effect, pure noise, and too little data."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.generation.findings import as_blocks_go, repetition, single_parts
from analysis.stats.intervals import Interval


def rows(values: list[float], significant: list[bool], n: int = 24, kind: str = "blocks") -> pd.DataFrame:
    each = zip(range(len(values)), values, significant, strict=True)
    found = [(kind, i, 1, "agreement", v, v - 0.1, v + 0.1, n, s) for i, v, s in each]
    return pd.DataFrame(found, columns=["kind", "block", "head", "metric", "value", "ci_low", "ci_high", "n_documents", "significant"])


def test_single_parts_name_both_ends() -> None:
    said = single_parts(rows([0.2, 0.9, 0.5], [True, False, True]))
    assert "50 % of the tokens agree" in said
    assert "most without block 1 (0.900 (0.800 to 1.00)), fewest without block 0 (0.200 (0.100 to 0.300))" in said
    assert "differs significantly from that of its own for 2 of 3 blocks" in said
    heads = single_parts(rows([0.2, 0.9], [True, False], kind="heads"), "heads")
    assert "Without a single head, 55 % of the tokens" in heads
    assert "most without head 1.1 (0.900 (0.800 to 1.00)), fewest without head 0.1" in heads


def test_too_few_prompts_decide_nothing() -> None:
    said = single_parts(rows([0.2, 0.9], [False, False], n=3))
    assert "Whether the loss of these texts differs is not known: too few documents" in said
    assert "is not known" in repetition({1.0: Interval(0.5, None, None)}, 3)


def left(half: float, **measures: list[float]) -> pd.DataFrame:
    """Intervals reach by `half` to either side."""
    found = [(name, float(n), value, value - half, value + half) for name, values in measures.items() for n, value in enumerate(values)]
    return pd.DataFrame(found, columns=["order", "removed", "value", "ci_low", "ci_high"])


def test_what_falls_first_is_named_first() -> None:
    said = as_blocks_go(left(0.05, perplexity=[1, 0.9, 0.4], agreement=[1, 0.3, 0.1], piqa=[1, 0.9, 0.8], none=[np.nan] * 3), 12)
    assert "less than half is left of agreement from 1 of 12 blocks on; perplexity from 2 of 12 blocks on, significantly." in said
    assert "Of piqa no set that was tried leaves significantly less than half." in said
    assert "What is left of none is not known: the unpruned model is not significantly better than guessing." in said


def test_noise_claims_nothing() -> None:
    """Values below a half whose intervals reach above it."""
    assert as_blocks_go(left(0.4, gsm8k=[1, 0.2, 0.3]), 12) == "Of gsm8k no set that was tried leaves significantly less than half."
    assert "is not known: too few documents" in as_blocks_go(left(np.nan, gsm8k=[1, 0.0, 0.0]), 12)


def test_repetition_needs_an_interval_off_zero() -> None:
    noise = {1.0: Interval(0.1, -0.1, 0.3), 2.0: Interval(-0.1, -0.3, 0.1)}
    assert repetition(noise, 24) == "Texts do not repeat themselves detectably more or less after removing 1 to 2 blocks."
    said = repetition(noise | {4.0: Interval(0.3, 0.1, 0.5)}, 24)
    assert (
        said
        == "The share of tokens in loops is larger than in the unpruned model's texts after removing 4 blocks (by 0.300 (0.100 to 0.500))."
    )
    assert "smaller" in repetition({1.0: Interval(-0.3, -0.5, -0.1)}, 24)
