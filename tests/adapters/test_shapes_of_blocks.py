"""Blocks whose mixer and ffn run in parallel, and blocks that have one of them: the contract, ablations, plans and prompts."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from adapters import KEEP, NONE, Ablation, Action, StrataError
from adapters.contract import Recorder, parametrize_with_checks
from analysis.engine.ablations import row_key, single_ablations
from analysis.engine.plan import Plan, plan
from analysis.engine.sweep import sweep
from analysis.removal.savings import Saved, saved
from tests.analysis.tasks.test_prompts import assert_equal_one_by_one, questions
from tests.reference.count import ffn_runs, mixer_runs
from tests.reference.toys import MODELS, VOCAB, block_spec, model_spec, naive_logits, toy

LENGTHS = torch.tensor([13, 6])
SETS = {
    "parallel": [Ablation(mixers={0, 1}, heads={(2, 1)}), Ablation(blocks={0}, ffns={1}), Ablation(heads={(0, 0), (0, 2)}, ffns={0})],
    "mixers-alone": [Ablation(mixers={0, 1}, heads={(2, 1)}), Ablation(blocks={0, 2})],
    "mixed": [Ablation(mixers={0, 1, 2}), Ablation(ffns={0, 3}, mixers={2}), Ablation(blocks={3}, heads={(1, 2), (4, 0)})],
}


def chosen(name: str) -> list[Ablation]:
    spec = model_spec(name)
    kinds = ["blocks", "mixers", *(["ffns"] * any(block.has_ffn for block in spec.blocks))]
    heads = [Ablation(heads={(i, h)}) for i, block in enumerate(spec.blocks) for h in range(block.n_heads or 0)]
    return [*single_ablations(spec, kinds), *heads, *SETS[name]]


@parametrize_with_checks({name: partial(toy, name) for name in MODELS})
def test_contract(check) -> None:
    check()


@pytest.mark.parametrize("name", MODELS)
def test_a_sweep_gives_what_the_naive_loop_gives_and_runs_what_the_plan_counts(name: str) -> None:
    model, work = toy(name), plan(model_spec(name), chosen(name))
    ids = torch.randint(VOCAB, (2, 13), generator=torch.Generator().manual_seed(1))
    recording = model.with_blocks([Recorder(block) for block in model.blocks])
    found = sweep(recording, work, ids, LENGTHS, kl=False)["nll"]
    for a, ablation in enumerate(work.ablations):
        for d, length in enumerate(LENGTHS.tolist()):
            text = ids[d, :length]
            logp = naive_logits(model, name, text, ablation)[:-1].log_softmax(-1)
            expected = -logp.gather(-1, text[1:, None]).sum()
            assert abs(float(found[a, d] - expected)) / (length - 1) < 1e-5, (ablation, d)
    assert sum(sum(block.mixed) for block in recording.blocks) == 2 * work.mixer_rows
    assert sum(sum(block.fed) for block in recording.blocks) == 2 * work.ffn_rows


@pytest.mark.parametrize("name", MODELS)
def test_plans_count_what_brute_force_counts(name: str) -> None:
    work = plan(model_spec(name), chosen(name))
    shapes = MODELS[name]
    assert work.mixer_rows == mixer_runs(len(shapes), work.ablations, shapes)
    assert work.ffn_rows == ffn_runs(len(shapes), work.ablations, shapes)


@pytest.mark.parametrize(("kind", "in_sequence", "in_parallel"), [("heads", 16_928, 15_904), ("mixers", 560, 528), ("ffns", 528, 528)])
def test_an_ffn_beside_an_ablated_mixer_is_not_run_again(kind: str, in_sequence: int, in_parallel: int) -> None:
    """32 blocks of 32 heads: at block i the ffn runs on the streams that enter it, 1 + 32 i of single heads, 1 + i of single mixers."""

    def rows(parallel: bool) -> Plan:
        block = replace(block_spec("parallel"), n_heads=32, n_kv_heads=32, parallel=parallel)
        spec = replace(model_spec("parallel"), blocks=(block,) * 32)
        return plan(spec, single_ablations(spec, [kind]))

    assert (rows(False).ffn_rows, rows(True).ffn_rows) == (in_sequence, in_parallel)
    assert rows(False).mixer_rows == rows(True).mixer_rows


def test_the_only_part_of_a_block_is_that_block() -> None:
    spec = model_spec("mixed")  # block 1 is a mixer, block 3 an ffn
    alone = [Ablation(mixers={1}), Ablation(blocks={1}), Ablation(ffns={3}), Ablation(blocks={3})]
    assert plan(spec, alone).ablations == (NONE, Ablation(blocks={1}), Ablation(blocks={3}))
    assert alone[0].actions(spec) == alone[1].actions(spec)
    assert single_ablations(spec, ["mixers"]) == [Ablation(mixers={0}), Ablation(blocks={1}), Ablation(mixers={2}), Ablation(mixers={4})]
    assert single_ablations(spec, ["ffns"]) == [Ablation(ffns={0}), Ablation(ffns={2}), Ablation(blocks={3}), Ablation(ffns={4})]
    assert row_key(spec, plan(spec, alone[2:]).ablations[1]).kind == "blocks"
    assert NONE.actions(spec) == (KEEP, Action(ffn=False), KEEP, Action(mixer=False), KEEP)


@pytest.mark.parametrize(
    ("ablation", "says"),
    [
        (Ablation(ffns={1}), r"block 1 of mixed \(mixed\) has no ffn: ablate the block instead"),
        (Ablation(mixers={3, 0}), "block 3 of mixed .* has no mixer"),
        (Ablation(heads={(3, 0)}), "has no heads"),
    ],
)
def test_a_part_that_is_not_there_cannot_be_taken_out(ablation: Ablation, says: str) -> None:
    for ask in (lambda: plan(model_spec("mixed"), [ablation]), lambda: toy("mixed").run(torch.zeros(1, 3, dtype=torch.long), ablation)):
        with pytest.raises(StrataError, match=says):
            ask()


def test_kinds_that_no_block_has_are_refused() -> None:
    with pytest.raises(StrataError, match=r"mixers-alone .* has no ffns: use `kinds` blocks"):
        single_ablations(model_spec("mixers-alone"), ["ffns"])


@pytest.mark.parametrize("name", MODELS)
def test_prompts_are_read_as_one_by_one(name: str) -> None:
    assert_equal_one_by_one(toy(name), chosen(name)[::2], questions(vocab=VOCAB)[:9])


def test_what_is_saved_is_what_is_there() -> None:
    model = toy("mixed")
    specs = model.spec.blocks
    assert saved(model, NONE) == Saved(0, 0)
    for i, spec in enumerate(specs):
        assert saved(model, Ablation(blocks={i})) == Saved(spec.n_params, spec.flops_per_token)
    assert saved(model, Ablation(mixers={1}, ffns={3})) == Saved(
        specs[1].n_params + specs[3].n_params, specs[1].mixer_flops + specs[3].flops_per_token
    )
