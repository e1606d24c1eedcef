"""What tests of benchmarks share: a few folders of lm_eval's tasks, small files, and models with their Hugging Face twins."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from adapters import load
from analysis.tasks import index as task_index
from tests.analysis.tasks import written_files
from tests.analysis.tasks.makers import sentence, write_lines
from tests.analysis.tasks.oracle import Both, twin
from tests.shared_data import shared

FOLDERS = (
    "piqa",
    "hellaswag",
    "mmlu",
    "cmmlu",
    "lambada",
    "coqa",
    "race",
    "super_glue",
    "arc",
    "wikitext",
    "gsm8k",
    "humaneval",
    "mbpp",
    "triviaqa",
    "bbh",
)  # of lm_eval's tasks


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


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """Reads bytes behind a BOS token; its context of 128 tokens is too short for five examples, so that they are cut."""
    return twin(tmp_path_factory.mktemp("tiny"))


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


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    written_files.write(folder)
    return folder


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """Its token in front of a text also ends one."""
    both = twin(tmp_path_factory.mktemp("writer"), eos_token_id=256)
    both.tokenizer.eos_token = both.tokenizer.pad_token = "<s>"
    return both
