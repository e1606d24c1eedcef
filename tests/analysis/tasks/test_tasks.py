"""Benchmarks give what lm_eval gives: its own harness on Hugging Face's model, on the same rows, is the oracle."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from adapters import NONE, Ablation, BlockModel, StrataError, load
from analysis.tasks import TaskSet, load_tasks
from analysis.tasks import index as task_index
from analysis.tasks.chances import chance_free
from analysis.tasks.study import TaskStudy
from tests.reference.models import save_reader
from tests.reference.naive import without
from tests.shared_data import shared

FOLDERS = ("piqa", "hellaswag", "mmlu", "lambada", "coqa", "super_glue", "wikitext")  # of lm_eval's tasks that these tests look at
WORDS = ["the", "cat", "sat", "on", "a", "warm", "red", "mat", "and", "saw", "two", "birds", "in", "an", "old", "tree"]
YAML = """include: {base}
task: {name}
dataset_path: json
dataset_name: null
dataset_kwargs:
  data_files: {files}
"""


@pytest.fixture(scope="module", autouse=True)
def fewer_tasks() -> Iterator[None]:
    """lm_eval has thousands of files; a few folders of them are enough, and the hub is out of reach."""
    files = task_index.files
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            task_index,
            "files",
            lambda folder: [path for name in (FOLDERS if folder != task_index.OWN else [""]) for path in files(folder / name)],
        )
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
            patch.setitem(os.environ, name, "1")
        task_index.names.cache_clear()
        yield
    task_index.names.cache_clear()


def sentence(seed: int, n: int) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, n))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files in their makers' formats."""
    folder = tmp_path_factory.mktemp("data")
    piqa = [{"goal": sentence(i, 5), "sol1": sentence(i + 50, 4), "sol2": sentence(i + 90, 6)} for i in range(14)]
    write_lines(folder / "piqa/valid.jsonl", map(json.dumps, piqa))
    write_lines(folder / "piqa/valid-labels.lst", (str(i % 2) for i in range(14)))
    hellaswag = [
        {
            "ind": i,
            "activity_label": "Walk",
            "ctx_a": sentence(i, 4),
            "ctx_b": "she",
            "label": i % 4,
            "endings": [sentence(4 * i + j, 3) for j in range(4)],
        }
        for i in range(6)
    ]
    write_lines(folder / "hellaswag/val.jsonl", map(json.dumps, hellaswag))
    for split, n in (("dev", 5), ("test", 4)):
        path = folder / "mmlu" / split / f"anatomy_{split}.csv"
        path.parent.mkdir(parents=True)
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([sentence(i + n, 3), *(sentence(10 * i + j, 1) for j in range(4)), "ABCD"[i % 4]] for i in range(n))
    write_lines(folder / "lambada/test.jsonl", (json.dumps({"text": sentence(i, 7)}) for i in range(5)))
    return folder


def write_lines(path: Path, lines) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


class Both(SimpleNamespace):
    model: BlockModel
    reference: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """Reads bytes behind a BOS token; its context of 128 tokens is too short for five examples, so that they are cut."""
    folder = tmp_path_factory.mktemp("tiny")
    reference = save_reader(folder)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), bos_token="<s>")
    return Both(model=load(folder, device="cpu", dtype="float32"), reference=reference, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Both:
    file = shared("models/stories260K/stories260K.gguf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRATA_CACHE", str(tmp_path_factory.mktemp("cache")))
        model = load(file, device="cpu")
    cfg = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
    cfg.pad_token_id = None  # the header's is out of range
    reference = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, config=cfg, dtype=torch.float32).eval()
    return Both(model=model, reference=reference, tokenizer=AutoTokenizer.from_pretrained(file.parent))


def harness(both: Both, reference: PreTrainedModel, name: str, tasks: TaskSet, folder: Path, shots: int) -> dict:
    """lm_eval by itself: the task's YAML on the same rows as a json data set, scored by HFLM."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    task = tasks.tasks[name]
    splits = {getattr(task.config, f"{kind}_split") for kind in ("training", "validation", "test", "fewshot")} - {None}
    files = {}
    for split in sorted(splits):
        files[split] = str(folder / f"{name}-{split}.jsonl")
        Path(files[split]).write_text("".join(json.dumps(row) + "\n" for row in task.dataset[split]))
    base = next(p for p in task_index.files(task_index.root()) if f"task: {name}\n" in p.read_text().replace('"', ""))
    (folder / f"{name}.yaml").write_text(YAML.format(base=base, name=name, files=json.dumps(files)))
    lm = HFLM(pretrained=reference, tokenizer=both.tokenizer, batch_size=4, device="cpu")
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    return lm_eval.simple_evaluate(lm, tasks=[name], num_fewshot=shots, task_manager=manager, bootstrap_iters=0)


CASES = [("piqa", 0), ("hellaswag", 0), ("mmlu_anatomy", 5), ("lambada_openai", 0)]


@pytest.mark.parametrize(("name", "shots"), CASES)
@pytest.mark.parametrize("ablation", [NONE, Ablation(blocks={1})], ids=str)
def test_equals_lm_eval_on_hugging_faces_model(name: str, shots: int, ablation: Ablation, tiny: Both, data: Path, tmp_path: Path) -> None:
    compare(tiny, name, shots, ablation, data, tmp_path)


@pytest.mark.parametrize(("name", "shots"), CASES[:3])
def test_equals_lm_eval_on_a_trained_model(name: str, shots: int, stories: Both, data: Path, tmp_path: Path) -> None:
    compare(stories, name, shots, NONE, data, tmp_path)


def compare(both: Both, name: str, shots: int, ablation: Ablation, data: Path, folder: Path) -> None:
    tasks = load_tasks(name, shots=shots, data=data)
    study = TaskStudy.of(both.model, [ablation], tasks)
    nats, greedy = study.scores(folder / "run")
    found = tasks.metrics([tasks.outcomes(both.model, item, nats[d][-1], greedy[d][-1]) for d, item in enumerate(tasks.items)])
    expected = harness(both, without(both.reference, ablation), name, tasks, folder, shots)
    assert len(expected["samples"][name]) == len(tasks.items)
    for d, sample in enumerate(sorted(expected["samples"][name], key=lambda s: s["doc_id"])):
        for i, ((context, continuation), [(nat, is_greedy)]) in enumerate(zip(sample["arguments"], sample["resps"], strict=True)):
            assert (context, continuation) == tasks.items[d].instances[i].args
            assert abs(nat - nats[d][-1, i]) / len(study.requests[d][i].continuation) < 1e-5
            assert is_greedy == greedy[d][-1, i]
    values = {k.removesuffix(",none"): v for k, v in expected["results"][name].items() if "," in k and "stderr" not in k}
    assert values
    assert {m: v.value for m, v in found[name].items()} == pytest.approx(values, rel=1e-5)


def test_prompts_longer_than_the_context_are_counted(tiny: Both, data: Path) -> None:
    study = TaskStudy.of(tiny.model, [], load_tasks("mmlu_anatomy", shots=5, data=data))
    assert study.cut == 16
    assert TaskStudy.of(tiny.model, [], load_tasks("mmlu_anatomy", shots=0, data=data)).cut < 16


def test_a_block_model_is_an_lm_eval_model(tiny: Both, data: Path, tmp_path: Path) -> None:
    import lm_eval

    from analysis.tasks.harness import HarnessModel

    tasks = load_tasks("piqa", data=data)
    ablation = Ablation(blocks={1})
    expected = harness(tiny, without(tiny.reference, ablation), "piqa", tasks, tmp_path, 0)["results"]["piqa"]
    lm = HarnessModel(tiny.model, ablation)
    found = lm_eval.simple_evaluate(lm, tasks=[tasks.tasks["piqa"]], bootstrap_iters=0)["results"]["piqa"]
    assert found["acc,none"] == expected["acc,none"]
    assert found["acc_norm,none"] == expected["acc_norm,none"]
    with pytest.raises(StrataError, match="not yet there"):
        lm.generate_until([])


def test_a_whole_text_is_read_as_hflm_reads_it(tiny: Both) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from analysis.tasks.harness import HarnessModel

    requests = [Instance("loglikelihood_rolling", {}, (sentence(i, n),), 0) for i, n in enumerate((3, 60))]
    lm = HFLM(pretrained=tiny.reference, tokenizer=tiny.tokenizer, batch_size=2, device="cpu")
    expected = lm.loglikelihood_rolling(requests, disable_tqdm=True)
    assert HarnessModel(tiny.model).loglikelihood_rolling(requests) == pytest.approx(expected, rel=1e-5)


def test_a_study_is_a_table_and_goes_on(tiny: Both, data: Path, tmp_path: Path) -> None:
    blocks = [Ablation(blocks={i}) for i in range(3)]
    TaskStudy.of(tiny.model, blocks, load_tasks("piqa", limit=4, data=data)).run(tmp_path / "run")
    records = next((tmp_path / "run/scores").glob("*.jsonl"))
    before = records.read_text()
    study = TaskStudy.of(tiny.model, blocks, load_tasks("piqa", data=data))
    table = study.run(tmp_path / "run")
    assert records.read_text().startswith(before)
    assert len(records.read_text()) > len(before)
    pd.testing.assert_frame_equal(table, study.run(tmp_path / "run"))
    assert set(table["task"]) == {"piqa"}
    assert table["kind"].tolist().count("dense") == 5
    cells = table.set_index(["kind", "block", "metric"])["value"]
    for block in range(3):
        assert cells["blocks", block, "delta_acc"] == pytest.approx(
            cells["blocks", block, "acc"] - float(table[(table.kind == "dense") & (table.metric == "acc")].value.iloc[0])
        )
        assert cells["blocks", block, "above_chance"] == pytest.approx(cells["blocks", block, "acc"] - 0.5)
    intervals = table[table["metric"] == "delta_log_loss"]
    assert (intervals["ci_low"] <= intervals["value"]).all()
    assert (intervals["value"] <= intervals["ci_high"]).all()


def test_chance_free_numbers() -> None:
    at_chance = chance_free(np.full(4, -7.0), [2])
    assert at_chance["log_loss"] == pytest.approx(np.log(4))
    assert at_chance["brier"] == pytest.approx(0.75)
    sure = chance_free(np.array([-50.0, -1.0]), [1])
    assert sure["log_loss"] == pytest.approx(0, abs=1e-12)
    assert (sure["brier"], sure["above_chance"]) == (pytest.approx(0, abs=1e-12), 0.5)


@pytest.mark.parametrize(
    ("name", "says"),
    [("piqqa", "did you mean piqa"), ("coqa", "coqa generates text, which is not yet there"), ("wikitext", "no layout of files")],
)
def test_tasks_that_cannot_be_had(name: str, says: str, data: Path) -> None:
    with pytest.raises(StrataError, match=says):
        load_tasks(name, data=data)


def test_without_hub_or_files(data: Path, tmp_path: Path) -> None:
    with pytest.raises(StrataError, match=r"cannot read baber/piqa for piqa: .* give files with --data DIR"):
        load_tasks("piqa")
    with pytest.raises(StrataError, match="holds no rows of baber/piqa"):
        load_tasks("piqa", data=tmp_path)
    with pytest.raises(StrataError, match="is not a folder"):
        load_tasks("piqa", data=tmp_path / "nowhere")
    with pytest.raises(StrataError, match="hold no examples of their own: give train files too, or --shots 0"):
        load_tasks("piqa", shots=2, data=data)


def test_malformed_rows_name_file_and_line(tmp_path: Path) -> None:
    write_lines(tmp_path / "piqa/valid.jsonl", ['{"goal": "a", "sol1": "b", "sol2": "c"}', '{"goal": "a"}'])
    write_lines(tmp_path / "piqa/valid-labels.lst", ["0", "1"])
    with pytest.raises(StrataError, match=r"valid\.jsonl, line 2: KeyError 'sol1'; it has goal"):
        load_tasks("piqa", data=tmp_path)
    write_lines(tmp_path / "piqa/valid.jsonl", ['{"goal": "a", "sol1": "b", "sol2": "c"}', "{oops"])
    with pytest.raises(StrataError, match=r"valid\.jsonl, line 2: "):
        load_tasks("piqa", data=tmp_path)


def test_no_right_answer(tmp_path: Path) -> None:
    rows = [{"activity_label": "W", "ctx_a": "a", "ctx_b": "b", "endings": list("abcd"), "label": label} for label in (1, 7)]
    write_lines(tmp_path / "hellaswag/val.jsonl", map(json.dumps, rows))
    with pytest.raises(StrataError, match="document 1 of hellaswag has no right answer"):
        load_tasks("hellaswag", data=tmp_path)


def test_offline_sets_share_no_document_with_a_corpus() -> None:
    from adapters.catalogue import PACKAGES
    from analysis.corpora import SPLITS, documents
    from analysis.tasks.offline import OFFLINE, OFFLINE_LAYOUTS

    try:
        folder = PACKAGES["texts"].folder("texts") / "data"
    except StrataError as error:
        pytest.skip(str(error))
    read = {d.text for d in documents("texts") if d.split(SPLITS) != "benchmark"}
    rows = OFFLINE_LAYOUTS["aps/super_glue"].read(folder, "boolq")["validation"]
    assert len(rows) > 500
    assert not {row["passage"].strip() for row in rows} & read
    for name, options in (("piqa", 2), ("mmlu_mixed", 4)):
        tasks = load_tasks(name, limit=3, data=OFFLINE)
        assert [tasks.gold(item)[1] for item in tasks.items] == [options] * 3
