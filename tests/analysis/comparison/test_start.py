"""Redundant at initialisation: planted parts, parts that start at zero, and the released trainings from their code and weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from adapters.catalogue import zoo
from analysis.comparison.measured import Measured
from analysis.comparison.start import Start, sentence
from analysis.comparison.trajectory import released, trajectory
from analysis.runs.budgets import Budget
from analysis.runs.settings import RunConfig
from analysis.stats.rank_agreement import Scores
from analysis.zoo.architectures import ARCHITECTURES
from analysis.zoo.groups import zoo_facts
from tests.analysis.comparison.test_words import measured
from tests.shared_data import shared

RISES = {("rise", kind): ((1e-5, -2e-5, 1e-5), (0.1, 0.1, 0.1)) for kind in ("mixers", "ffns")}
TRAINED = (0.10, 0.11, 0.12)


def test_parts_that_do_little_at_the_start_are_redundant_there_and_mixers_beside_ffns() -> None:
    values = RISES | {("influence", "mixers"): ((0.001, 0.0012, 0.0015), TRAINED), ("influence", "ffns"): ((0.04, 0.041, 0.042), TRAINED)}
    said = sentence("Llama", values)
    assert said.startswith("Llama: at the start a mixer does 1.11 (")
    assert said.endswith(
        "of what it does when trained (Block Influence, 3 seeds): by the mark of 10\u00a0% mixers are redundant and ffns are not redundant."
    )
    agrees = {("divergence", kind): values["influence", kind] for kind in ("mixers", "ffns")}
    assert sentence("Llama", values | agrees, 0.01).endswith(
        "ffns are not redundant. Divergence says the same. Its mixers turn the stream less there than its ffns (paired t over seeds, "
        "adjusted p = 0.0100)."
    )
    other = {("divergence", "mixers"): ((0.05, 0.052, 0.054), TRAINED), ("divergence", "ffns"): values["influence", "mixers"]}
    assert "By divergence mixers are not redundant and ffns are redundant." in sentence("Llama", values | other)


def test_noise_between_parts_is_not_told_apart_and_two_seeds_leave_it_open() -> None:
    noise = RISES | {("influence", "mixers"): ((0.02, 0.03, 0.025), TRAINED), ("influence", "ffns"): ((0.03, 0.02, 0.026), TRAINED)}
    assert sentence("Llama", noise, 0.4).endswith(
        " Mixers and ffns turn the stream equally there, as far as seeds show (paired t, adjusted p = 0.400)."
    )
    assert Start({}).conclusion == ""
    two = {key: (start[:2], end[:2]) for key, (start, end) in noise.items()}
    said = sentence("Llama", two)
    assert said.endswith("(Block Influence, 2 seeds): 3 seeds are needed to say more.")


def test_what_starts_at_zero_is_redundant_by_construction() -> None:
    zero = RISES | {("influence", kind): ((0.0,) * 3, TRAINED) for kind in ("mixers", "ffns")}
    assert sentence("RWKV", zero).startswith("RWKV: redundant at initialisation by construction. What its mixers and ffns add")
    assert "so that Block Influence is 0 but for rounding (3 seeds)" in sentence("RWKV", zero)
    both = zero | {("divergence", kind): ((1e-8,) * 3, TRAINED) for kind in ("mixers", "ffns")}
    assert "so that Block Influence and divergence are 0 but for rounding (3 seeds)" in sentence("RWKV", both)
    half = both | {("influence", "ffns"): ((0.05, 0.051, 0.052), TRAINED)}
    assert "a mixer does 0 (0 to 0)\u00a0% and an ffn does" in sentence("RWKV", half)
    assert "mixers are redundant and ffns are not redundant." in sentence("RWKV", half), "though divergence is 0"


def test_a_block_that_is_a_mixer_alone_is_one() -> None:
    start, end = (alone(planted("mamba2-0", level)) for level in (0.01, 0.5))
    found = Start({"Mamba-2": [(start, end)] * 3})
    assert found.table["part"].tolist() == ["mixers"]
    assert found.table["Block Influence, trained"].tolist() == ["0.500"]
    assert "Mamba\\-2: at the start a mixer does 2.00" in found.conclusion
    assert "ffn" not in found.conclusion


def planted(name: str, level: float, margin: float = 0.05) -> Measured:
    m = measured(name, level, margin=margin)
    scores = Scores(level * np.ones((6, 24)), np.ones(24))
    return replace(m, divergence=dict.fromkeys(("mixers", "ffns"), scores), influence=dict.fromkeys(("mixers", "ffns"), scores))


def alone(m: Measured) -> Measured:
    """As a model whose blocks are mixers alone is measured."""
    blocks = {"blocks": m.influence["mixers"]}
    return replace(m, singles={"blocks": m.singles["blocks"]}, divergence=blocks, influence=blocks)


def test_the_table_has_both_ends() -> None:
    found = Start({"Llama": [(planted(f"llama-{i}", 0.01), planted(f"llama-{i}", 0.5)) for i in range(3)]})
    assert found.table["part"].tolist() == ["mixers", "ffns"]
    assert found.table["Block Influence, at the start"].tolist() == ["0.0100"] * 2
    assert found.table["divergence (nats per token), trained"].tolist() == ["0.500"] * 2
    assert found.conclusion.startswith("- At step 0 no kind of part changes the loss by more than ")
    late = Start({"Llama": [(planted("llama-0", 0.5, 2.0), planted("llama-0", 0.5))]})
    assert late.conclusion.startswith("- At step 0 some kind of part changes the loss, but none by more than ")


@pytest.mark.skipif(len(zoo()) < 2, reason="adapters/zoo holds no models yet: run `make zoo`")
def test_released_trainings_begin_as_their_code_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path / "cache"))
    facts = {name: of for name, of in zoo_facts().items() if name in ("zoo-llama-0", "zoo-rwkv5-0", "zoo-rwkv5-0-early")}
    found = released(facts, "cpu")
    assert {name: sorted(steps) for name, steps in found.items()} == {"llama-0": [0, 1500], "rwkv5-0": [0, 1500]}
    drawn = ARCHITECTURES["llama"].initial(torch.Generator().manual_seed(0))[1][3]["q"]
    assert torch.equal(found["llama-0"][0]().blocks[3].weights["q"], drawn.half().float())
    corpus = str(shared("text/books-en/botchan.txt"))
    over = trajectory(found, RunConfig(Budget(32, 3, 60.0), tmp_path / "runs", corpus, 3))
    start = over.start.values
    assert start["RWKV-5.2"]["influence", "mixers"][0] == start["RWKV-5.2"]["influence", "ffns"][0] == (pytest.approx(0, abs=1e-6),)
    assert 0 < start["Llama"]["influence", "mixers"][0][0] < start["Llama"]["influence", "mixers"][1][0]
    assert abs(start["Llama"]["rise", "ffns"][0][0]) < 0.01 < start["Llama"]["rise", "ffns"][1][0]
    assert len(over.titles_of("influence")) == 2
    last = load_file(zoo()["zoo-llama-0"] / "model.safetensors")["model.layers.3.self_attn.q_proj.weight"].float()
    assert torch.equal(found["llama-0"][1500]().blocks[3].weights["q"], last)
