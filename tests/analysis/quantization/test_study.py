"""The notebook on quantisation, run on tiny models: its losses against a loop over files that transformers reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

from adapters import load
from adapters.errors import StrataError
from analysis.data.batches import batches
from analysis.display.format import bounded
from analysis.quantization.study import Quantised
from analysis.quantization.trade import trade_off
from analysis.runs.budgets import BUDGETS
from analysis.runs.settings import RunConfig
from analysis.tasks import load_tasks
from analysis.tasks.benchmark import benchmarks
from tests.analysis.test_notebooks_on_variants import run
from tests.reference.gptq import save_gptq
from tests.reference.models import save_reader
from tests.reference.variants import save

pytest.importorskip("llmcompressor")
ALL = [("dense", ""), ("dense", "after"), ("int8", ""), ("int8", "after"), ("gptq", ""), ("gptq", "after"), ("gptq", "before")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "dense"
    path.mkdir()
    save_reader(path, hidden_size=64, intermediate_size=96, num_hidden_layers=4, tie_word_embeddings=True)
    return path


def quantised(model: Path, prose: Path, out: Path, documents: int = 12) -> Quantised:
    study = run("quantization", model=str(model), corpus=str(prose), documents=documents, device="cpu", out=str(out))["study"]
    assert isinstance(study, Quantised)
    return study


def losses(folder: Path, study: Quantised) -> np.ndarray:
    """Of a checkpoint as transformers reads it, (documents,)."""
    model, out = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), []
    with torch.inference_mode():
        for batch in batches(study.text.windows(study.model), study.model):
            for ids, length in zip(batch.ids, batch.lengths, strict=True):
                logits = model(ids[None, :length]).logits[0, :-1]
                out.append(float(F.cross_entropy(logits.double(), ids[1:length], reduction="sum")))
    return np.array(out)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def study(folder: Path, prose: Path, runs: Path) -> Quantised:
    return quantised(folder, prose, runs)


def test_notebook(study: Quantised, folder: Path, prose: Path, runs: Path) -> None:
    assert list(study.variants) == ALL
    assert len(study.removed) == 1
    made = {path.parent: path.stat().st_mtime_ns for path in runs.glob("*/model.safetensors")}
    assert sorted(path.name.rpartition("-")[0] for path in made) == ["dense-gptq", "dense-int8", "dense-without-1-gptq"]
    for path in made:
        key = ("int8" if "int8" in path.name else "gptq", "before" if "without" in path.name else "")
        np.testing.assert_allclose(study.variants[key].nll, losses(path, study), rtol=1e-5)
        assert study.variants[key].file == (path / "model.safetensors").stat().st_size - header(path)
    dense, less = study.variants["dense", ""], study.variants["dense", "after"]
    assert (dense.file, less.file) == (study.model.spec.n_params * 4, less.parameters * 4)
    assert study.table["perplexity"].tolist() == pytest.approx([np.exp(v.nll.sum() / study.tokens.sum()) for v in study.variants.values()])
    assert study.rises["ci_low"].notna().all()
    assert "GPTQ 4-bit" in study.conclusion
    assert study.paper.empty
    again = quantised(folder, prose, runs)
    assert all(np.array_equal(v.nll, again.variants[key].nll) for key, v in study.variants.items())
    assert made == {path.parent: path.stat().st_mtime_ns for path in runs.glob("*/model.safetensors")}, "nothing is made twice"


def header(folder: Path) -> int:
    with (folder / "model.safetensors").open("rb") as file:
        return 8 + int.from_bytes(file.read(8), "little")


def test_too_few_documents_leave_all_open(folder: Path, prose: Path, tmp_path: Path) -> None:
    study = quantised(folder, prose, tmp_path, documents=4)
    assert study.conclusion.count("not known: too few documents for an interval (4 of at least 12)") == 5
    assert study.rises["ci_low"].isna().all()
    trade_off(study.rises)


def test_a_model_that_is_quantised_is_measured_and_pruned(prose: Path, tmp_path: Path) -> None:
    """As in the paper's table, whose rows stand beside it for its model."""
    source = tmp_path / "Llama-2-7B-GPTQ"
    source.mkdir()
    save_gptq(source, sym=False, reads=True)
    study = quantised(source, prose, tmp_path / "runs")
    assert list(study.variants) == [("dense", ""), ("dense", "after")]
    assert study.table["model"].tolist() == ["as it is", "1 block removed"]
    assert study.paper["perplexity"].tolist() == [8.4999, 42.6951]
    for name, rows in (("Llama-2-7b-hf", 2), ("llama-2-7b-gptq", 2), ("Llama-2-7b-chat", 0), ("Llama-2-7b-chat-GPTQ", 0)):
        named = study.model.with_blocks(study.model.blocks)
        named.spec = replace(named.spec, name=name)
        assert len(replace(study, model=named).paper) == rows, name
    assert study.chosen is None
    assert "4-bit weights, groups of 16 (gptq)" in study.facts["measured"].to_list()


def test_a_model_that_llmcompressor_does_not_know(prose: Path, tmp_path: Path) -> None:
    with pytest.raises(StrataError, match="cannot be quantised: llmcompressor works on models of transformers"):
        quantised(save("rwkv-7", tmp_path), prose, tmp_path / "runs")


def test_planted_differences_are_told(study: Quantised) -> None:
    """With losses put in place of those measured: a cost, an order that matters, and costs that add up."""
    noise = np.random.default_rng(0).normal(0, 0.01, (len(ALL), len(study.tokens)))
    rises = {("gptq", ""): 0.2, ("dense", "after"): 0.5, ("gptq", "after"): 0.7, ("gptq", "before"): 0.4}
    base = study.variants["dense", ""].nll
    planted = {
        key: v._replace(nll=base + study.tokens * (rises.get(key, 0.0) + noise[i] - noise[i].mean()))
        for i, (key, v) in enumerate(study.variants.items())
    }
    said = replace(study, variants=planted).conclusion
    assert "Int8 does not change the loss significantly" in said
    assert "GPTQ 4-bit costs 0.2" in said
    assert "Removing blocks first and then quantising is better, by 0.3" in said
    assert "What they cost together does not differ significantly from the sum of what each costs alone" in said


def test_benchmarks_stand_in_the_table(study: Quantised, folder: Path, prose: Path, runs: Path, tmp_path: Path) -> None:
    (tmp_path / "piqa").mkdir()
    rows = [json.dumps({"goal": f"to count {i}", "sol1": f"say {i}", "sol2": f"eat {i} {i}"}) for i in range(4)]
    (tmp_path / "piqa/valid.jsonl").write_text("\n".join(rows))
    (tmp_path / "piqa/valid-labels.lst").write_text("\n".join("0101"))
    parameters = {"tasks": "piqa", "data": str(tmp_path), "documents": 12, "device": "cpu", "out": str(runs)}
    found = run("quantization", model=str(folder), corpus=str(prose), **parameters)["study"]
    assert isinstance(found, Quantised)
    (name,) = found.variants["dense", ""].tasks
    assert name == "piqa, accuracy (guessing: 0.50)"
    small = load(folder, device="cpu")
    small = small.with_blocks([block for i, block in enumerate(small.blocks) if i not in found.removed])
    for model, key in ((load(folder, device="cpu"), ("dense", "")), (small, ("dense", "after"))):
        config = RunConfig(BUDGETS["quick"], tmp_path / str(len(model.blocks)))
        (expected,) = benchmarks(model, [load_tasks("piqa", data=tmp_path)], [], config)
        assert found.variants[key].tasks[name].value == expected.dense("acc").value
    assert found.table[name].tolist() == [bounded(v.tasks[name]) for v in found.variants.values()]
    assert len(found.table) == len(study.table)
