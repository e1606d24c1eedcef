"""lm_eval's own harness on Hugging Face's model, on the same rows: what a benchmark has to give."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from adapters import Ablation, BlockModel, StrataError, load
from adapters.registry import locate
from analysis.tasks import TaskSet, load_tasks
from analysis.tasks import index as task_index
from analysis.tasks.study import TaskStudy
from tests.reference.models import save_reader
from tests.reference.naive import without

YAML = """include: {base}
task: {name}
dataset_path: json
dataset_name: null
dataset_kwargs:
  data_files: {files}
"""


class Both(SimpleNamespace):
    model: BlockModel
    reference: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast


def both_of_smollm2(dtype: torch.dtype) -> Both:
    """Ours in fp32, and Hugging Face's."""
    try:
        _, folder = locate("smollm2", None)
    except StrataError as error:
        pytest.skip(str(error))
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    return Both(model=load("smollm2", device="cpu", dtype="float32"), reference=reference, tokenizer=AutoTokenizer.from_pretrained(folder))


def twin(folder: Path, **config: object) -> Both:
    """A tiny Llama that reads bytes behind a BOS token, ours and Hugging Face's."""
    reference = save_reader(folder, **config)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), bos_token="<s>")
    return Both(model=load(folder, device="cpu", dtype="float32"), reference=reference, tokenizer=tokenizer)


def harness(both: Both, reference: PreTrainedModel, name: str, tasks: TaskSet, folder: Path, shots: int, limit: int | None = None) -> dict:
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
    return lm_eval.simple_evaluate(lm, tasks=[name], num_fewshot=shots, limit=limit, task_manager=manager, bootstrap_iters=0)


def assert_as_harness(both: Both, name: str, shots: int, ablation: Ablation, data: Path, folder: Path, limit: int | None = None) -> None:
    tasks = load_tasks(name, shots=shots, limit=limit, data=data)
    study = TaskStudy.of(both.model, [ablation], tasks)
    nats, greedy = study.scores(folder / "run")
    found = tasks.metrics([tasks.outcomes(item, nats[d][-1], greedy[d][-1]) for d, item in enumerate(tasks.items)])
    expected = harness(both, without(both.reference, ablation), name, tasks, folder, shots, limit)
    assert len(expected["samples"][name]) == len(tasks.items)
    for d, sample in enumerate(sorted(expected["samples"][name], key=lambda s: s["doc_id"])):
        for i, ((context, continuation), [(nat, is_greedy)]) in enumerate(zip(sample["arguments"], sample["resps"], strict=True)):
            assert (context, continuation) == tasks.items[d].instances[i].args
            assert abs(nat - nats[d][-1, i]) / len(study.requests[d][i].continuation) < 1e-5
            assert is_greedy == greedy[d][-1, i]
    values = {k.removesuffix(",none"): v for k, v in expected["results"][name].items() if "," in k and "stderr" not in k}
    assert values
    assert {m: v.value for m, v in found[name].items()} == pytest.approx(values, rel=1e-5)
