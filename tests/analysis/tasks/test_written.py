"""Tasks whose answers a model writes: every layout and metric, whole runs, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from adapters import Ablation, StrataError
from analysis.engine.ablations import single_ablations
from analysis.tasks import code_eval, load_tasks
from analysis.tasks import index as task_index
from analysis.tasks.code_eval import CodeEval, pass_at
from analysis.tasks.harness import HarnessModel
from analysis.tasks.study import TaskStudy
from analysis.tasks.written import WrittenTaskStudy, prompt_of, written_table
from tests.analysis.tasks.makers import write_json
from tests.analysis.tasks.oracle import Both
from tests.analysis.tasks.written_files import DOCUMENTS, RIGHT
from tests.analysis.tasks.written_oracle import harness_texts
from tests.shared_data import shared

CODE = ("humaneval", "mbpp")


def texts(*each: str) -> np.ndarray:
    return np.array([{"text": text, "tokens": [1], "why": "stop"} for text in each], dtype=object)


@pytest.mark.parametrize("name", RIGHT)
def test_right_answers_are_right_and_wrong_ones_wrong(name: str, files: Path, tiny: Both) -> None:
    if name in CODE and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    tasks = load_tasks(name, data=files, run_code=name in CODE)
    assert (tasks.written, len(tasks.items)) == (True, DOCUMENTS.get(name, 10))
    study, (right, metric) = WrittenTaskStudy.of(tiny.model, [], tasks, most=8), RIGHT[name]
    found = study.metrics(texts(*(right(item.doc) for item in tasks.items)))[name]
    assert found[metric].value == pytest.approx(1)
    assert found[metric].documents is not None
    wrong = study.metrics(texts(*[" 999999 zz."] * len(tasks.items)))[name]
    assert wrong[metric].value == pytest.approx(0)


@pytest.mark.parametrize(("name", "turns"), [("coqa", [3] * 10), ("coqa_turns", [1, 2, 3] * 10)])
def test_answers_of_several_people_count(name: str, turns: list[int], files: Path, tiny: Both) -> None:
    """Of "the cat", "cat" and "a red cat" ("The Cat" is the first again) each is left out once, and the best of the others counts.

    Without the last, F1 is 4/5 (2 of 3 words, both of theirs); beside the first alone it would be that everywhere.
    """
    tasks = load_tasks(name, data=files)
    assert [len(more["input_text"]) for item in tasks.items for more in item.doc["additional_answers"].values()] == [
        turn for turn in turns for _ in range(3)
    ]
    found = WrittenTaskStudy.of(tiny.model, [], tasks, most=8).metrics(texts(*(f" red cat {turn}\n" for turn in turns)))[name]
    assert found["f1"].documents == pytest.approx([(1 + 1 + 4 / 5) / 3] * len(turns))
    assert found["em"].documents == pytest.approx([2 / 3] * len(turns))


@pytest.mark.long
def test_human_eval_as_a_whole(tiny: Both) -> None:
    """Its makers' file, the harness's prompts and filters, the sandbox and the table's metric: all of its solutions are right."""
    bench = shared("bench/humaneval/HumanEval.jsonl.gz").parents[1]
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    tasks = load_tasks("humaneval", data=bench, run_code=True)
    study = WrittenTaskStudy.of(tiny.model, [], tasks, most=8)
    for answers, share in (([item.doc["canonical_solution"] for item in tasks.items], 1), (["    return None"] * 164, 0)):
        assert len(answers) == 164
        assert study.metrics(texts(*answers))["humaneval"]["pass@1,create_test"].value == share


def test_groups_are_read_as_a_whole(files: Path, tiny: Both, tmp_path: Path) -> None:
    """BBH's 27 subtasks, of one to three documents, over all of which the group's metric is the mean; a missing file is named."""
    with pytest.raises(StrataError, match="holds no rows of SaylorTwift/bbh"):
        load_tasks("bbh_cot_fewshot", data=files)
    names = sorted(path.stem for path in (task_index.root() / "bbh/cot_fewshot").glob("[!_]*.yaml"))
    for n, name in enumerate(names):
        examples = [{"input": f"Is it {i}?", "target": f"({i})"} for i in range(1 + n % 3)]
        write_json(tmp_path / f"bbh/{name}.json", {"canary": "x", "examples": examples})
    tasks = load_tasks("bbh_cot_fewshot", data=tmp_path)
    assert (len(tasks.tasks), len(tasks.items)) == (27, 54)
    study = WrittenTaskStudy.of(tiny.model, [], tasks, most=8)
    all_but_two = texts(*(f" So the answer is ({0 if item.task.endswith(names[2]) else item.number})." for item in tasks.items))
    row = written_table(study, all_but_two[None]).set_index(["dataset", "metric"]).loc[("bbh_cot_fewshot", "exact_match,get-answer")]
    assert (row["value"], row["n_documents"]) == (pytest.approx(52 / 54), 54)
    assert row["ci_low"] < row["value"] < row["ci_high"]


def test_programs_need_to_be_allowed(files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in CODE:
        with pytest.raises(StrataError, match=f"{name} runs programs that the model writes: allow it with `run_code`"):
            load_tasks(name, data=files)
    monkeypatch.setattr(code_eval.CODE_EVAL, "sandbox", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StrataError, match="install it with `apt-get install bubblewrap`"):
        load_tasks("humaneval", data=files, run_code=True)


def test_pass_at_k() -> None:
    assert [pass_at(n, right, k) for n, right, k in ((5, 0, 1), (5, 5, 3), (4, 1, 1), (4, 2, 2))] == [0, 1, 0.25, pytest.approx(5 / 6)]
    refusing = CodeEval()
    assert refusing.compute(["assert True"], [["x = 1"]], [1])[0] == {"pass@1": 0}


def test_a_run_has_a_table_and_goes_on(tiny: Both, files: Path, tmp_path: Path) -> None:
    tasks = load_tasks("coqa_turns", limit=14, data=files)
    study = WrittenTaskStudy.of(tiny.model, single_ablations(tiny.model.spec, ["blocks"]), tasks, most=6)
    counted: list[int] = []
    table = study.run(tmp_path / "run", counted.append)
    assert sum(counted) == study.steps
    dense = table[table["kind"] == "dense"].set_index("metric")
    assert {"f1", "em"} <= set(dense.index)
    assert not {"delta_f1"} & set(dense.index)
    blocks = table[table["kind"] == "blocks"]
    assert set(blocks["metric"]) >= {"f1", "delta_f1", "significant"}
    assert blocks["n_documents"].eq(14).all()
    again = study.run(tmp_path / "run")
    assert again.equals(table)


def test_our_harness_model_writes_the_same(writer: Both, files: Path) -> None:
    ablation = Ablation(blocks={1})
    tasks = load_tasks("triviaqa", limit=4, data=files)
    instances = [item.instances[0] for item in tasks.items]
    for instance in instances:
        instance.arguments = (instance.args[0], instance.args[1] | {"max_gen_toks": 10})
    found = HarnessModel(writer.model, ablation).generate_until(instances)
    assert found == [said.text for said in harness_texts(writer, ablation, "triviaqa", files, 4, max_gen_toks=10)]


def test_repeats_are_sampled_apart(tiny: Both, files: Path, tmp_path: Path) -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    tasks = load_tasks("humaneval_64", limit=1, data=files, run_code=True)
    study = WrittenTaskStudy.of(tiny.model, [], tasks, most=4)
    found = study.writing.texts(tmp_path / "run")
    assert found.shape == (1, 64)
    assert len({text["text"] for text in found[0]}) > 1
    right = texts(*["    return x + 0\n"] * 32, *["    return 7\n"] * 32)
    assert study.metrics(right)["humaneval_64"]["pass@2,create_test"].value == pytest.approx(1 - 31 / 63 / 2)


def test_what_cannot_be_written(tiny: Both, files: Path) -> None:
    model = tiny.model
    with pytest.raises(StrataError, match=r"asks for 256 new tokens, and .* reads 128 with its prompt: ask for fewer \(`max_tokens`\)"):
        prompt_of(model, "a", {"until": ["b"]})
    with pytest.raises(StrataError, match="asks for num_beams of generation"):
        prompt_of(model, "a", {"num_beams": 3, "max_gen_toks": 3})
    with pytest.raises(StrataError, match="are written, not scored"):
        TaskStudy.of(model, [], load_tasks("triviaqa", data=files))


def test_prompts_are_lm_evals(tiny: Both, files: Path) -> None:
    prompt = prompt_of(tiny.model, "ab", {"until": "x", "do_sample": True, "temperature": 0.2, "max_gen_toks": 5})
    assert (prompt.tokens, prompt.most, prompt.until) == ((256, 97, 98), 5, ("x",))
    assert (prompt.sampling.temperature, prompt.sampling.top_k) == (0.2, 50)
    long = prompt_of(tiny.model, "a" * 200, {"max_gen_toks": 28})
    assert long.tokens == (97,) * 100
    assert json.dumps(prompt_of(tiny.model, "", {"max_gen_toks": 5}).tokens) == "[256]"
