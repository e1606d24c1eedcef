"""Benchmarks give what lm_eval gives: its own harness on Hugging Face's model, on the same rows, is the oracle."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adapters import NONE, Ablation, StrataError
from analysis.tasks import load_tasks
from analysis.tasks.chances import chance_free
from analysis.tasks.study import TaskStudy
from tests.analysis.tasks.makers import sentence, write_lines
from tests.analysis.tasks.oracle import Both, assert_as_harness, harness
from tests.reference.naive import without

CASES = [("piqa", 0), ("hellaswag", 0), ("mmlu_anatomy", 5), ("lambada_openai", 0)]


@pytest.mark.parametrize(("name", "shots"), CASES)
@pytest.mark.parametrize("ablation", [NONE, Ablation(blocks={1})], ids=str)
def test_equals_lm_eval_on_hugging_faces_model(name: str, shots: int, ablation: Ablation, tiny: Both, data: Path, tmp_path: Path) -> None:
    assert_as_harness(tiny, name, shots, ablation, data, tmp_path)


@pytest.mark.parametrize(("name", "shots"), CASES[:3])
def test_equals_lm_eval_on_a_trained_model(name: str, shots: int, stories: Both, data: Path, tmp_path: Path) -> None:
    assert_as_harness(stories, name, shots, NONE, data, tmp_path)


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


def test_a_whole_text_is_read_as_hflm_reads_it(tiny: Both) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from analysis.tasks.harness import HarnessModel

    requests = [Instance("loglikelihood_rolling", {}, (sentence(i, n),), 0) for i, n in enumerate((3, 60))]
    lm = HFLM(pretrained=tiny.reference, tokenizer=tiny.tokenizer, batch_size=2, device="cpu")
    expected = lm.loglikelihood_rolling(requests, disable_tqdm=True)
    assert HarnessModel(tiny.model).loglikelihood_rolling(requests) == pytest.approx(expected, rel=1e-5)


def test_a_study_is_a_table_and_goes_on(tiny: Both, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = [Ablation(blocks={i}) for i in range(3)]
    TaskStudy.of(tiny.model, blocks, load_tasks("piqa", limit=4, data=data)).run(tmp_path / "run")
    records = next((tmp_path / "run/scores").glob("*.jsonl"))
    before = records.read_text()
    study = TaskStudy.of(tiny.model, blocks, load_tasks("piqa", data=data))
    table = study.run(tmp_path / "run")
    assert records.read_text().startswith(before)
    assert len(records.read_text()) > len(before)
    pd.testing.assert_frame_equal(table, study.run(tmp_path / "run"))
    assert set(table["dataset"]) == {"piqa"}
    assert table["kind"].tolist().count("dense") == 6
    cells = table.set_index(["kind", "block", "metric"])["value"]
    for block in range(3):
        assert cells["blocks", block, "delta_acc"] == pytest.approx(
            cells["blocks", block, "acc"] - float(table[(table.kind == "dense") & (table.metric == "acc")].value.iloc[0])
        )
        assert cells["blocks", block, "above_chance"] == pytest.approx(cells["blocks", block, "acc"] - 0.5)
    whole = (tmp_path / "run/summary.csv").read_bytes()
    capsys.readouterr()
    few = TaskStudy.of(tiny.model, blocks, load_tasks("piqa", limit=4, data=data)).run(tmp_path / "run")
    assert set(few["n_documents"]) == {4}
    assert (tmp_path / "run/summary.csv").read_bytes() == whole
    assert "stays as it is: it covers 14 documents, and the 4 that were requested are among them" in capsys.readouterr().err
    intervals = table[table["metric"] == "delta_log_loss"]
    assert (intervals["ci_low"] <= intervals["value"]).all()
    assert (intervals["value"] <= intervals["ci_high"]).all()


@pytest.mark.parametrize("name", ["piqa", "lambada_openai"])
def test_requests_are_encoded_once_whatever_is_taken_out(name: str, tiny: Both, data: Path, tmp_path: Path) -> None:
    """For each question what its options and contexts take, and nothing for an ablation."""
    given, texts = tiny.model.tokenizer, []

    class Counting:
        def __getattr__(self, name: str) -> object:
            return getattr(given, name)

        def encode(self, text: str) -> object:
            texts.append(text)
            return given.encode(text)

    counts = []
    for blocks in (range(1), range(3)):
        model = copy.copy(tiny.model)
        model.tokenizer = Counting()
        study = TaskStudy.of(model, [Ablation(blocks={i}) for i in blocks], load_tasks(name, limit=3, data=data))
        texts.clear()
        study.run(tmp_path / str(len(blocks)))
        asked = [
            (context + continuation).strip() for context, continuation in (i.args for item in study.tasks.items for i in item.instances)
        ]
        counts.append(len(texts))
        assert max(sum(text.strip() == whole for text in texts) for whole in asked) == 1
    assert counts[0] == counts[1]


def test_chance_free_numbers() -> None:
    at_chance = chance_free(np.full(4, -7.0), [2])
    assert at_chance["log_loss"] == pytest.approx(np.log(4))
    assert at_chance["brier"] == pytest.approx(0.75)
    sure = chance_free(np.array([-50.0, -1.0]), [1])
    assert sure["log_loss"] == pytest.approx(0, abs=1e-12)
    assert (sure["brier"], sure["above_chance"]) == (pytest.approx(0, abs=1e-12), 0.5)


@pytest.mark.parametrize(
    ("name", "says"),
    [("piqqa", "did you mean piqa"), ("coqa", "holds no rows of EleutherAI/coqa"), ("wikitext", "no layout of files")],
)
def test_tasks_that_cannot_be_had(name: str, says: str, data: Path) -> None:
    with pytest.raises(StrataError, match=says):
        load_tasks(name, data=data)


def test_without_hub_or_files(data: Path, tmp_path: Path) -> None:
    with pytest.raises(StrataError, match=r"cannot read baber/piqa for piqa: .* give files with `data` DIR"):
        load_tasks("piqa")
    with pytest.raises(StrataError, match="holds no rows of baber/piqa"):
        load_tasks("piqa", data=tmp_path)
    with pytest.raises(StrataError, match="is not a folder"):
        load_tasks("piqa", data=tmp_path / "nowhere")
    with pytest.raises(StrataError, match="hold no examples of their own: give train files too, or `shots` 0"):
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
    from analysis.data.documents import SPLITS, documents
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
