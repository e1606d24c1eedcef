"""`strata prune`: what it writes, and that it leaves nothing when what it wrote is not the ablated model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from adapters import Ablation, load, registry
from adapters.checkpoints.export import Source
from adapters.checkpoints.files import open_store
from adapters.checkpoints.stock import by_strata
from adapters.errors import StrataError
from adapters.families.rwkv.tokenizers import ByteTokenizer
from analysis.checkpoints import write
from analysis.checkpoints.prune import count_of, measure_loss
from analysis.checkpoints.write import tolerance, verify
from analysis.data.batches import Batch, Text, batches, tokenizer_of
from analysis.display.format import capital, escape, named
from analysis.metrics.metrics import measure
from analysis.removal.paths import nested
from analysis.tasks.requests import prompt_ids
from tests.reference import variants
from tests.reference.command_line import Done, Strata
from tests.reference.models import save_reader
from tests.reference.rwkv_checkpoints import random_checkpoint

BLOCKS = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "dense"
    path.mkdir()
    save_reader(path, num_hidden_layers=BLOCKS, tie_word_embeddings=True)
    return path


@pytest.fixture
def prune(strata: Strata, folder: Path, prose: Path, tmp_path: Path) -> Strata:
    def run(*words: object, model: Path = folder) -> Done:
        given = ["--corpus", prose, "--tokens", 14 * 32, "--window", 32, "--device", "cpu", "--out", tmp_path / "out"]
        return strata("prune", model, *given, *words)

    return run


def here(reader: str, path: Path, ids: torch.Tensor, device: str, dtype: str) -> torch.Tensor:
    """In this process, by our own loader: that of others is tested with the files' layouts."""
    with torch.inference_mode():
        return by_strata(path, ids, device, dtype)


def test_prune_by_bi_is_read_by_transformers(prune: Callable, folder: Path, prose: Path, tmp_path: Path) -> None:
    code, said, errors = prune("--by", "bi", "--remove", 2)
    assert code == 0, errors
    assert "the loss rises by" in said
    model, out = load(folder, device="cpu"), tmp_path / "out"
    text = Text(corpus=str(prose), split="calibration", window=32, documents=14)
    bi = np.sum([measure(model, b.ids, b.lengths)["bi"].sum(1) for b in batches(text.windows(model), model)], axis=0)
    record = json.loads((out / "strata.json").read_text())
    assert record["blocks"]["removed"] == sorted(np.argsort(bi)[:2].tolist())
    assert [len(s) for s in record["order"]["sets"]] == [0, 1, 2]
    assert record["source"]["hash"] == model.spec.source_hash
    assert record["written"]["read_by"] == "transformers"
    assert set(record["corpora"]) == {"calibration", "held-out"}
    reloaded = AutoModelForCausalLM.from_pretrained(out)
    assert reloaded.config.num_hidden_layers == BLOCKS - 2
    assert sum(p.numel() for p in reloaded.parameters()) == record["parameters"]["pruned"]
    losses = [np.sum([nll(out, b) for b in batches(Text(corpus=str(prose), window=32, documents=14).windows(model), model)])]
    assert record["loss"]["pruned"] == pytest.approx(losses[0] / record["loss"]["n_tokens"], rel=1e-5)
    weights = (out / "model.safetensors").stat().st_size
    assert record["files"]["pruned"] == weights
    assert f"files {weights:,} of {record['files']['dense']:,} bytes" in said
    assert (folder / "model.safetensors").stat().st_size == pytest.approx(record["files"]["dense"], rel=0.1)  # but for the header
    assert record["loss"]["rise"]["ci_low"] <= record["loss"]["rise"]["value"] <= record["loss"]["rise"]["ci_high"]
    card = (out / "README.md").read_text()
    assert f"{capital(named('block', record['blocks']['removed']))} (0-based)" in card
    assert "byte for byte" in card
    assert f"File: {weights / 1e6:,.1f} MB of " in card
    assert ", in the precision of the source. `AutoModelForCausalLM" in card
    assert (out / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert model.tokenizer is not None
    window = Text(corpus=str(prose), window=32, documents=14).windows(model)[0]
    ids = torch.tensor([prompt_ids(model, window.text)[:32]])
    for name, source in (("source", AutoModelForCausalLM.from_pretrained(folder)), ("this", reloaded)):
        new = source.generate(ids, max_new_tokens=32, do_sample=False, pad_token_id=0)[0, ids.shape[1] :].tolist()
        assert f"- {name} model: {escape(model.tokenizer.decode(new))}\n" in card
    assert record["generation"]["scores"]["agreement"]["dense"] == 1


@torch.no_grad()
def nll(folder: Path, batch: Batch) -> float:
    model = AutoModelForCausalLM.from_pretrained(folder)
    total = 0.0
    for row, n in zip(batch.ids, batch.lengths.tolist(), strict=True):
        logits = model(row[None, :n]).logits[0].double().log_softmax(-1)
        total -= float(logits[:-1].gather(-1, row[1:n, None]).sum())
    return total


def test_given_blocks_and_ratio(prune: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "stock_logits", here)
    code, said, errors = prune("--blocks", "4,1", "--json")
    assert code == 0, errors
    record = json.loads(said)
    assert record["blocks"] == {"dense": 5, "removed": [1, 4], "kept": [0, 2, 3]}
    assert record["order"] == {"metric": None, "sets": [[], [4], [1, 4]]}
    code, said, errors = prune("--ratio", "0.4", "--by", "greedy", "--out", tmp_path / "other", "--json")
    assert code == 0, errors
    assert len(json.loads(said)["blocks"]["removed"]) == 2


def test_rwkv_7_without_block_0_is_measured_as_it_is_written(
    prune: Callable, prose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "stock_logits", here)
    code, said, errors = prune("--blocks", "0", "--json", model=variants.save("rwkv-7", tmp_path))
    assert code == 0, errors
    record = json.loads(said)
    assert record["rerooted"]
    model, rows = load(tmp_path / "out", device="cpu"), []
    for b in batches(Text(corpus=str(prose), window=32, documents=14).windows(model), model):
        for row, n in zip(b.ids, b.lengths.tolist(), strict=True):
            rows.append(-model.run(row[None, :n])[0].double().log_softmax(-1)[:-1].gather(-1, row[1:n, None]).sum())
    assert record["loss"]["pruned"] == pytest.approx(float(sum(rows)) / record["loss"]["n_tokens"], rel=1e-6)
    kept = load(tmp_path / "rwkv-7.pth", device="cpu")  # the other reading of its removal has another loss
    with torch.inference_mode():
        other = kept.run(torch.arange(20)[None], Ablation(frozenset({0})))
    assert not torch.allclose(other, model.run(torch.arange(20)[None]), atol=1e-3)
    assert [path.name for path in (tmp_path / "out").glob("*.pth")] == ["rwkv-7.pth"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "source of RWKV-7's v_first" in card
    assert "rows above it without block 0 keep its v_first" in card


@pytest.mark.parametrize("version", ["5.2", "7"])
def test_half_precision_is_held_against_the_rwkv_package(version: str, prune: Callable, tmp_path: Path) -> None:
    """The package computes in fp32: single logits are as far from those in bf16 as those of another model may be, all together are not."""
    source = tmp_path / "dense.pth"
    tensors = random_checkpoint(version, blocks=4, heads=4, head_size=16, vocab=256)
    torch.save({key: t.bfloat16() for key, t in tensors.items()}, source)
    code, said, errors = prune("--blocks", "0", "--dtype", "bfloat16", "--json", model=source)
    assert code == 0, errors
    written = json.loads(said)["written"]
    assert (written["read_by"], written["error"]) == ("rwkv", "rms")
    assert written["error_over_std"] < tolerance("rwkv", torch.bfloat16).most / 2
    spec = load(source, device="cpu", dtype="bfloat16")
    with pytest.raises(StrataError, match=r"is not the ablated model as rwkv reads it \(rms error"):
        verify(spec, Ablation(blocks={1}), tmp_path / "out", "rwkv", open_store(tmp_path / "out").hash)


def test_the_gate_exits_1_and_writes_nothing(prune: Callable, tmp_path: Path, folder: Path, prose: Path) -> None:
    model, text = load(folder, device="cpu"), Text(corpus=str(prose), window=32, documents=14)
    rise = measure_loss(model, nested([2]), text).rises[-1].value  # below zero: random weights only get better
    code, _, errors = prune("--blocks", 2, f"--max-nll-increase={rise - 0.01}")
    assert code == 1
    assert "nothing was written" in errors
    assert not list(tmp_path.iterdir())


def test_a_gate_that_passes(prune: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "stock_logits", here)
    code, said, errors = prune("--blocks", 2, "--max-nll-increase", 5, "--json")
    assert code == 0, errors
    assert json.loads(said)["loss"]["rise"]["value"] < 5
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_a_folder_that_holds_something_is_left_alone(prune: Callable, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    code, _, errors = prune("--blocks", 1)
    assert code == 2
    assert "is not empty: give another --out" in errors
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("out", [".", "link", "afile/x", "afile"])
def test_where_it_can_be_written_is_seen_before_the_work(
    out: str, prune: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("empty", "here"):
        (tmp_path / name).mkdir()
    (tmp_path / "afile").touch()
    (tmp_path / "link").symlink_to("empty")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(write, "stock_logits", here)
    if out == "link":
        code, _, errors = prune("--blocks", 1, "--out", tmp_path / out)
        assert code == 0, errors
        assert (tmp_path / "empty" / "model.safetensors").is_file()
        return
    code, _, errors = prune("--out", out if out == "." else tmp_path / out)  # how much goes is not said either
    assert code == 2
    assert "cannot be replaced" in errors if out == "." else "is a file" in errors
    assert not list((tmp_path / "here").iterdir())


def test_a_converted_source_is_not_said_to_be_copied(
    prune: Callable, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "stock_logits", here)
    monkeypatch.setattr(registry, "converted_gguf", lambda path: folder)
    (tmp_path / "model.gguf").touch()
    code, _, errors = prune("--blocks", 1, model=tmp_path / "model.gguf")
    assert code == 0, errors
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Block 1 (0-based) of " in card
    assert "all other weights are those of the source, as converted to fp32." in card
    assert ", in fp32, to which the source's GGUF file was converted. " in card
    assert "byte for byte" not in card


def test_the_loss_is_of_the_tokens_that_a_comparison_scores(folder: Path, prose: Path) -> None:
    """Beside a tokenizer of bytes without BOS the first token of a window is not scored."""
    model = load(folder, device="cpu")
    text = Text(str(prose), window=32, documents=14, tokenizers=(tokenizer_of(model), ByteTokenizer()))
    found = measure_loss(model, nested([2]), text)
    total = [0.0, 0.0]
    for batch in batches(text.windows(model), model):
        assert batch.first is not None
        assert (batch.first > 1).all()
        for row, n, first in zip(batch.ids, batch.lengths.tolist(), batch.first.tolist(), strict=True):
            for i, out in enumerate(found.path):
                logits = model.run(row[None, :n], out)[0].double().log_softmax(-1)
                total[i] -= float(logits[:-1].gather(-1, row[1:n, None])[first - 1 :].sum())
    assert found.nll.sum(1) == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize("change", [1e-6, 1.0])
def test_one_weight_changed_between_write_and_check(
    prune: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: float
) -> None:
    def spoiled(reader: str, path: Path, *rest: object) -> torch.Tensor:
        tensors = load_file(path / "model.safetensors")
        tensors["model.layers.0.mlp.up_proj.weight"][0, 0] += change
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
        return here(reader, path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(write, "stock_logits", spoiled)
    code, _, errors = prune("--blocks", "1")
    assert code == 2
    assert "the weights on the disk are not those that were written" in errors
    assert not list(tmp_path.iterdir())


def test_other_logits_of_the_same_bytes_are_seen(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "stock_logits", lambda *given: here(*given) * 1.001)
    model = load(folder, device="cpu")
    (tmp_path / "out").mkdir()
    store = Source.of(str(folder), model.spec).write([1], tmp_path / "out", "safetensors")
    with pytest.raises(StrataError, match=r"is not the ablated model as strata reads it \(largest error of its logits"):
        verify(model, Ablation(blocks={1}), tmp_path / "out", "strata", store.hash)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--remove", "5"], "at least one must stay"),
        (["--remove", "0"], "give a number from 1 to 4"),
        (["--blocks", "0,1,2,3,4"], "all 5 blocks"),
        (["--blocks", "1,1"], "block 1 is named twice"),
        (["--blocks", "5"], "has blocks 0 to 4"),
        (["--blocks", "one"], "not a list of block indices"),
        (["--ratio", "0.25"], "which is not a whole number: give --remove 1 (ratio 0.200) or --remove 2 (ratio 0.400)"),
        (["--ratio", "nan"], "a ratio of nan is not a share of the blocks: give one between 0 and 1"),
        (["--ratio", "inf"], "a ratio of inf is not a share of the blocks"),
        (["--by", "bj", "--remove", "1"], "bi"),
        (["--by", "bi", "--blocks", "1"], "--by bi and --blocks both choose what is removed: use only one of them"),
        (["--by", "nll", "--method", "laco", "--remove", "1"], "--by nll and --method both choose what is removed"),
        (["--by", "bi", "--method", "slicegpt", "--ratio", "0.2"], "--by bi and --method both choose what is removed"),
        ([], "one of --remove"),
        (["--remove", "1", "--ratio", "0.2"], "one of --remove"),
        (["--remove", "1", "--format", "gguf"], "no stock loader reads llama"),
    ],
)
def test_bad_input(prune: Callable, words: list[str], message: str) -> None:
    code, _, errors = prune(*words)
    assert code == 2
    assert message in errors
    assert errors.count("\n") == 1


def test_ratios_of_the_paper() -> None:
    assert count_of(None, 0.28, 32) == 9
    assert count_of(None, 0.25, 40) == 10
    with pytest.raises(StrataError, match=r"`n` 7 \(ratio 0.233\) or `n` 8 \(ratio 0.267\)"):
        count_of(None, 0.25, 30)
