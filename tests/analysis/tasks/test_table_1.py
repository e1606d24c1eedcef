"""Every benchmark of the paper's Table 1 runs from files, on a Llama and an RWKV. That is plumbing: random models know nothing."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from adapters import Ablation, BlockModel, StrataError
from analysis.tasks import TaskSet, load_tasks
from analysis.tasks.study import TaskStudy
from tests.analysis.tasks.makers import table_1, write_json, write_lines
from tests.analysis.tasks.oracle import twin
from tests.reference import variants

N = 20
TABLE_1 = {  # tasks, and how many options they have
    "cmnli": 3, "hellaswag": 4, "piqa": 2, "chid": 7, "wsc": 2, "coqa_loss": 0, "boolq": 2, "race": 4, "race_middle": 4, "xsum_loss": 0,
    "c3": 3, "mmlu_anatomy": 4, "cmmlu_agronomy": 4,
}  # fmt: skip
WALK = {"activity_label": "Walk", "ctx_a": "a", "ctx_b": "she", "endings": ["b", "c", "d", "e"]}
SHORT = {
    "id": "1",
    "story": "a",
    "questions": [{"input_text": "b"}],
    "answers": [{"input_text": "c"}],
    "additional_answers": {"0": []},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table1")
    table_1(folder, N)
    return folder


@cache
def loaded(name: str, folder: Path) -> TaskSet:
    return load_tasks(name, shots=0, limit=N, data=folder)


@pytest.fixture(scope="module", params=["llama", "rwkv-7"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BlockModel:
    if request.param == "llama":
        return twin(tmp_path_factory.mktemp("tiny"), max_position_embeddings=512).model
    return variants.model(request.param)


@pytest.mark.parametrize("name", TABLE_1)
def test_plumbing_of_table_1(name: str, model: BlockModel, folder: Path, tmp_path: Path) -> None:
    tasks = loaded(name, folder)
    assert len(tasks.items) == N
    assert {tasks.gold(item)[1] for item in tasks.items} == {TABLE_1[name]}
    study = TaskStudy.of(model, [Ablation(blocks={1})], tasks)
    assert study.cut == 0
    table = study.run(tmp_path / "run")
    assert table["n_documents"].eq(N).all()
    assert np.isfinite(table["value"]).all()
    cells = table.set_index(["kind", "metric"])["value"]
    loss = "log_loss" if TABLE_1[name] else "nll"
    assert cells["dense", loss] != cells["blocks", loss]
    assert ("acc" if TABLE_1[name] else "perplexity") in cells["dense"]


CHINESE = {
    "cmnli": ("语句一：“他有0本书。”\n语句二：“他有书。”\n请问这两句话是什么关系？", ["\n无关", "\n蕴含", "\n矛盾"], [0]),
    "c3": ("文章：男：你看见什么？\n女：猫。\n问题：她看见什么？\n答案：", ["猫", "狗", "鸟"], [0]),
}


@pytest.mark.parametrize("name", CHINESE)
def test_our_chinese_tasks_ask_as_they_say(name: str, folder: Path) -> None:
    context, choices, right = CHINESE[name]
    item = loaded(name, folder).items[0]
    assert [instance.args for instance in item.instances] == [(context, choice) for choice in choices]
    assert loaded(name, folder).gold(item) == (right, len(choices))


def test_an_idiom_is_asked_for_by_the_whole_passage(folder: Path) -> None:
    item = loaded("chid", folder).items[1]
    assert item.instances[2].args == ("以下句子是否通顺？", "\n第1次，他真是井底之蛙。")
    assert loaded("chid", folder).gold(item) == ([1], 7)


def test_other_blanks_of_a_passage_hold_their_idioms() -> None:
    from analysis.tasks.own.prompts import chid_documents

    answers = {"text": ["甲", "乙", "丙"], "candidate_id": [0, 1, 2]}
    rows = [{"candidates": ["甲", "乙", "丙"], "content": ["一#idiom000001#二#idiom000002#。", "三#idiom000003#。"], "answers": answers}]
    found = chid_documents(Dataset.from_list(rows)).to_list()
    assert [row["answer"] for row in found] == [0, 1, 2]
    assert found[0]["passages"] == ["一甲二乙。", "一乙二乙。", "一丙二乙。"]
    assert found[1]["passages"] == ["一甲二甲。", "一甲二乙。", "一甲二丙。"]
    assert found[2]["passages"] == ["三甲。", "三乙。", "三丙。"]


def test_middle_is_asked_as_lm_eval_asks_high(folder: Path) -> None:
    middle, high = (loaded(name, folder).items[3] for name in ("race_middle", "race"))
    assert [i.args for i in middle.instances] == [i.args for i in high.instances]
    assert middle.instances[0].args[0].endswith("Question: Who sat?\nAnswer: " + middle.instances[0].args[1].strip() + "\nIt saw  _  .")


def test_answers_are_scored_behind_lm_evals_own_prompts(folder: Path) -> None:
    [instance] = loaded("coqa_loss", folder).items[0].instances
    assert instance.args[0].endswith("\n\nQ: Who sat?\n\nA: the cat\n\nQ: On what?\n\nA:")
    assert instance.args[1] == " a mat"
    [instance] = loaded("xsum_loss", folder).items[0].instances
    assert instance.args[0].startswith("Document：")
    assert instance.args[0].endswith("\nBased on the previous text, provide a brief single summary:")
    assert instance.args[1].startswith(" ")


@pytest.mark.parametrize(
    ("name", "file", "whole", "says"),
    [
        ("c3", "c3/c3-m-dev.json", [[["a"], [{"question": "?", "choice": ["b"], "answer": "c"}], "1"]], "item 0: ValueError answer 'c'"),
        ("coqa_loss", "coqa/coqa-dev-v1.0.json", {"data": [{"id": "1", "story": "a"}]}, "item 0: KeyError 'questions'"),
        ("coqa", "coqa/coqa-dev-v1.0.json", {"data": [SHORT]}, "item 0: ValueError 1 questions and 1, 0 answers"),
        ("coqa_loss", "coqa/coqa-dev-v1.0.json", {"rows": []}, "holds no list 'data'"),
        ("chid", "chid/dev.json", {"candidates": ["甲"], "content": "乙", "answer": 0}, "line 1: ValueError 0 places of #idiom#"),
        ("cmnli", "cmnli/dev.json", {"sentence1": "a", "sentence2": "b"}, "line 1: KeyError 'label'"),
        ("boolq", "boolq/dev.jsonl", {"question": "a", "passage": "b", "answer": "perhaps"}, "line 1: ValueError 'perhaps' is neither"),
        ("hellaswag", "hellaswag/val.jsonl", WALK | {"label": "true"}, "line 1: ValueError 'true' is not the number of an option"),
        ("hellaswag", "hellaswag/val.jsonl", WALK | {"label": 2.5}, "line 1: ValueError 2.5 is not the number of an option"),
    ],
)
def test_malformed_files_name_the_place(name: str, file: str, whole: object, says: str, tmp_path: Path) -> None:
    write_json(tmp_path / file, whole)
    with pytest.raises(StrataError, match=f"{Path(file).name}.*{says}"):
        load_tasks(name, data=tmp_path)


@pytest.mark.parametrize("half", ["d", "m"])
def test_half_of_a_benchmark_is_refused(half: str, folder: Path, tmp_path: Path) -> None:
    """Its accuracy would be that of another benchmark."""
    write_json(tmp_path / f"c3/c3-{half}-dev.json", json.loads((folder / f"c3/c3-{half}-dev.json").read_text()))
    with pytest.raises(StrataError, match=r"c3 holds half of C3: expected both c3-d-dev\.json and c3-m-dev\.json"):
        load_tasks("c3", data=tmp_path)


def test_an_empty_line_keeps_the_lines_behind_it_in_place(tmp_path: Path) -> None:
    row = json.dumps({"question": "a", "passage": "b", "answer": True})
    write_lines(tmp_path / "boolq/dev.jsonl", [row, "", "{"])
    with pytest.raises(StrataError, match=r"dev\.jsonl, line 3: "):
        load_tasks("boolq", data=tmp_path)
