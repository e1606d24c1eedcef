"""Real benchmark files: predictions, metrics and pooled groups are those of lm_eval with Hugging Face's model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adapters import NONE, Ablation
from analysis.tasks import index as task_index
from analysis.tasks import load_tasks
from analysis.tasks.local import reading_from
from analysis.tasks.study import TaskStudy
from tests.analysis.tasks.makers import sentence, write_table
from tests.analysis.tasks.oracle import Both, assert_as_harness, both_of_smollm2, twin
from tests.shared_data import shared

SUBJECTS = ("abstract_algebra", "high_school_geography", "professional_law")


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """Reads bytes, and has room for five examples of them."""
    return twin(tmp_path_factory.mktemp("roomy"), max_position_embeddings=8192)


@pytest.mark.long
@pytest.mark.parametrize("ablation", [NONE, Ablation(blocks={1})], ids=str)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_mmlu_behind_five_examples(subject: str, ablation: Ablation, roomy: Both, tmp_path: Path) -> None:
    assert_as_harness(roomy, f"mmlu_{subject}", 5, ablation, shared("bench/mmlu").parent, tmp_path, limit=5)


@pytest.mark.parametrize("ablation", [NONE, Ablation(blocks={1})], ids=str)
@pytest.mark.parametrize("name", ["boolq", "cmmlu_agronomy", "race"])
def test_questions_about_texts(name: str, ablation: Ablation, roomy: Both, tmp_path: Path) -> None:
    assert_as_harness(roomy, name, 0, ablation, shared("bench/boolq").parent, tmp_path, limit=8)


@pytest.mark.long
@pytest.mark.parametrize(("group", "tasks_in"), [("mmlu", 57), ("cmmlu", 67)])
def test_groups_are_pooled_as_lm_eval_pools_them(group: str, tasks_in: int, tiny: Both, tmp_path: Path) -> None:
    """Subjects of one to three questions each, so that weights matter; lm_eval reads its own, unchanged tasks."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    subjects = [name.removeprefix(f"{group}_") for name in task_index._closure(group) if not task_index.names()[name].members]
    for n, subject in enumerate(sorted(subjects)):
        cells = [(sentence(10 * n + i, 3), *(sentence(100 * n + 10 * i + j, 1) for j in range(4)), "ABCD"[i % 4]) for i in range(1 + n % 3)]
        for split in ("dev", "test"):
            if group == "mmlu":
                write_table(tmp_path / f"mmlu/{split}/{subject}_{split}.csv", cells)
            else:
                numbered = [("", "Question", *"ABCD", "Answer"), *((i, *row) for i, row in enumerate(cells))]
                write_table(tmp_path / f"cmmlu/{split}/{subject}.csv", numbered)
    tasks = load_tasks(group, shots=0, data=tmp_path)
    assert len(tasks.tasks) == tasks_in
    nats, greedy = TaskStudy.of(tiny.model, [], tasks).scores(tmp_path / "run")
    found = tasks.metrics([tasks.outcomes(item, nats[d][0], greedy[d][0]) for d, item in enumerate(tasks.items)])
    lm = HFLM(pretrained=tiny.reference, tokenizer=tiny.tokenizer, batch_size=8, device="cpu")
    with reading_from(tmp_path, group):
        manager = TaskManager(include_path=[str(f) for f in task_index.folders_of(group)], include_defaults=False)
        expected = lm_eval.simple_evaluate(lm, tasks=[group], num_fewshot=0, task_manager=manager, bootstrap_iters=0)
    assert set(expected["groups"]) == set(tasks.groups)
    for name, values in expected["groups"].items():
        assert found[name]["acc"].value == pytest.approx(values["acc,none"], rel=1e-9), name
    for name in tasks.tasks:
        assert found[name]["acc"].value == pytest.approx(expected["results"][name]["acc,none"], rel=1e-9), name


@pytest.mark.long
@pytest.mark.parametrize(("name", "shots", "limit"), [("mmlu_abstract_algebra", 5, 3), ("boolq", 0, 4), ("arc_easy", 0, 6)])
def test_a_real_model(name: str, shots: int, limit: int, smollm2: Both, tmp_path: Path) -> None:
    assert_as_harness(smollm2, name, shots, NONE, shared("bench/mmlu").parent, tmp_path, limit=limit)


@pytest.fixture(scope="module")
def smollm2() -> Both:
    """Hugging Face's in fp64: in fp32, its own log-likelihoods are up to 2e-5 a token off, and padding alone moves them by 1.6e-5."""
    return both_of_smollm2(torch.float64)
