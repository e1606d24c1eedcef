"""`strata prune --method`: what it writes is what the method makes, as stock loaders read it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from adapters import BlockModel, load
from analysis.checkpoints import write
from analysis.data.batches import Text, batches
from analysis.methods import laco
from analysis.methods.method import calibration_for, solve
from analysis.methods.rewrite import bases
from analysis.methods.table import METHODS
from tests.analysis.checkpoints.test_prune import here
from tests.reference import baichuan
from tests.reference.command_line import Done, Strata
from tests.reference.models import save_reader
from tests.reference.rwkv_checkpoints import random_checkpoint
from tests.reference.variants import BAICHUAN

BLOCKS = 5


def saved(variant: str, folder: Path) -> Path:
    """A model that reads bytes."""
    if variant.startswith("rwkv"):
        torch.save(random_checkpoint(variant.removeprefix("rwkv-"), blocks=BLOCKS, vocab=256), folder / f"{variant}.pth")
        return folder / f"{variant}.pth"
    reference = save_reader(folder, num_hidden_layers=BLOCKS)
    if variant in BAICHUAN:
        sizes = {"num_hidden_layers": BLOCKS, "vocab_size": 258, "model_max_length": 128, "max_position_embeddings": 128}
        baichuan.save(folder, *baichuan.tiny(**baichuan.KINDS[variant] | sizes))
    elif variant == "half":
        reference.half().save_pretrained(folder)
    return folder


@pytest.fixture
def prune(strata: Strata, prose: Path, tmp_path: Path) -> Strata:
    def run(model: Path, *words: object, out: bool = True) -> Done:
        given = ["--corpus", prose, "--tokens", 14 * 32, "--window", 32, "--device", "cpu", "--json"]
        return strata("prune", model, *given, *(["--out", tmp_path / "out"] if out else []), *words)

    return run


def calibration(model: BlockModel, prose: Path) -> Text:
    return calibration_for(model, Text(corpus=str(prose), window=32, documents=14))


@pytest.mark.parametrize("method", ["laco", pytest.param("linear", marks=pytest.mark.long)])
def test_transformers_reads_what_is_written(method: str, prune: Callable, prose: Path, tmp_path: Path) -> None:
    source = saved("llama", tmp_path)
    code, said, errors = prune(source, "--method", method, "--remove", 2)
    assert code == 0, errors
    record, model = json.loads(said), load(source, device="cpu")
    made = METHODS[method].prune(model, list(batches(calibration(model, prose).windows(model), model)), 2)
    assert record["written"]["read_by"] == "transformers"
    assert record["blocks"]["kept"] == bases(model, made)
    assert record["method"] == {"name": METHODS[method].title, "level": 2}
    assert set(record["corpora"]) == {"calibration", "held-out"}
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    ids = torch.arange(40)[None]
    with torch.inference_mode():
        torch.testing.assert_close(reloaded(ids).logits, made.run(ids), rtol=1e-3, atol=1e-3)
    assert METHODS[method].title in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("variant", ["half", "baichuan2-7b", "baichuan-13b", "rwkv-4", "rwkv-6", "rwkv-7"])
@pytest.mark.parametrize("method", ["laco_eq1", "linear"])
def test_other_files(method: str, variant: str, prune: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fused and rounded weights: the logits that the command compares are of what it measured. One block of it is new."""
    monkeypatch.setattr(write, "stock_logits", here)
    monkeypatch.setattr(laco, "merge_width", lambda n: 3)  # of two blocks LaCo makes one that is there already
    source = saved(variant, tmp_path)
    code, said, errors = prune(source, "--method", method, "--ratio", 0.4)
    assert code == 0, errors
    record = json.loads(said)
    assert len(record["blocks"]["kept"]) == BLOCKS - 2
    dense, written = (load(path, device="cpu", dtype="float32") for path in (source, tmp_path / "out"))
    held = [block.weights["down"] for block in dense.blocks]
    assert sum(not any(torch.equal(block.weights["down"], down) for down in held) for block in written.blocks) == 1
    if variant == "half":
        assert {t.dtype for t in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.float16}


def test_refusals(prune: Callable, tmp_path: Path) -> None:
    source = saved("llama", tmp_path)
    for words, expected in [
        (["--method", "slicegpt", "--remove", 1], "no stock loader holds what SliceGPT makes"),
        (["--method", "llm_pruner", "--remove", 1], "no stock loader holds what LLM-Pruner makes"),
        (["--method", "lako", "--remove", 1], "unknown method 'lako': did you mean laco"),
        (["--method", "laco", "--blocks", "1"], "--method laco finds its blocks itself: give --remove or --ratio"),
        (["--method", "laco", "--remove", 5], "5 of 5 blocks are to be removed"),
        (["--method", "laco"], "it is not clear how much to remove"),
    ]:
        code, _, errors = prune(source, *words)
        assert code == 2
        assert expected in errors
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("method", "ratio"), [("slicegpt", 0.2), ("llm_pruner", 0.3)])
def test_what_no_file_holds_is_measured(method: str, ratio: float, prune: Callable, prose: Path, tmp_path: Path) -> None:
    source = saved("llama", tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, said, errors = prune(source, "--method", method, "--ratio", ratio, out=False)
    assert code == 0, errors
    record, model = json.loads(said), load(source, device="cpu")
    held_out = Text(corpus=str(prose), window=32, documents=14)
    solved = solve(METHODS[method], model, list(batches(calibration_for(model, held_out).windows(model), model)), ratio)
    assert record["removed"] == solved.size._asdict()
    assert record["parameters"]["pruned"] == solved.model.spec.n_params
    nll = tokens = 0.0
    for batch in batches(held_out.windows(model), model):
        for row, n in zip(batch.ids, batch.lengths.tolist(), strict=True):
            logits = solved.model.run(row[None, :n])[0, :-1].double().log_softmax(-1)
            nll, tokens = nll - float(logits.gather(-1, row[1:n, None]).sum()), tokens + n - 1
    assert record["loss"]["pruned"] == pytest.approx(nll / tokens, rel=1e-5)
    assert sorted(tmp_path.rglob("*")) == before, "nothing was written"
    code, said, errors = prune(source, "--method", method, "--ratio", ratio, "--max-nll-increase", -9, out=False)
    assert (code, "more than -9" in errors) == (1, True)
    for words in (["--remove", 1], ["--ratio", ratio, "--blocks", "1"]):
        code, _, errors = prune(source, "--method", method, *words, out=False)
        assert (code, "removes a share of the block parameters: give --ratio 0.25 alone" in errors) == (2, True)
