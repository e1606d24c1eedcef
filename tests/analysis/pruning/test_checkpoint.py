"""`strata prune`: what it writes, and that it leaves nothing when what it wrote is not the ablated model."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from adapters import load
from adapters.errors import StrataError
from adapters.export import Source
from adapters.stock import by_strata
from analysis.corpora.text import Batch, Text, batches
from analysis.importance import measure
from analysis.pruning import checkpoint
from analysis.pruning.checkpoint import count_of, measure_loss, verify
from analysis.pruning.orders import nested
from reports import cli
from tests.reference import variants
from tests.reference.models import save_reader

BLOCKS = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "dense"
    path.mkdir()
    save_reader(path, num_hidden_layers=BLOCKS, tie_word_embeddings=True)
    return path


@pytest.fixture
def prune(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], folder: Path, prose: Path, tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    def run(*words: object, model: Path = folder) -> tuple[int, str, str]:
        given = ["--corpus", prose, "--tokens", 14 * 32, "--window", 32, "--device", "cpu", "--out", tmp_path / "out"]
        monkeypatch.setattr(sys, "argv", ["strata", "prune", *map(str, [model, *given, *words])])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capfd.readouterr()

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
    assert record["loss"]["rise"]["ci_low"] <= record["loss"]["rise"]["value"] <= record["loss"]["rise"]["ci_high"]
    card = (out / "README.md").read_text()
    assert f"Blocks {', '.join(map(str, record['blocks']['removed']))} (0-based)" in card
    assert (out / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


@torch.no_grad()
def nll(folder: Path, batch: Batch) -> float:
    model = AutoModelForCausalLM.from_pretrained(folder)
    total = 0.0
    for row, n in zip(batch.ids, batch.lengths.tolist(), strict=True):
        logits = model(row[None, :n]).logits[0].double().log_softmax(-1)
        total -= float(logits[:-1].gather(-1, row[1:n, None]).sum())
    return total


def test_given_blocks_and_ratio(prune: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "stock_logits", here)
    code, said, errors = prune("--blocks", "4,1", "--json")
    assert code == 0, errors
    record = json.loads(said)
    assert record["blocks"] == {"dense": 5, "removed": [1, 4], "kept": [0, 2, 3]}
    assert record["order"] == {"metric": None, "sets": [[], [4], [1, 4]]}
    code, said, errors = prune("--ratio", "0.4", "--by", "greedy", "--out", tmp_path / "other", "--json")
    assert code == 0, errors
    assert len(json.loads(said)["blocks"]["removed"]) == 2


def test_rwkv_7_without_block_0_is_measured_as_it_is_written(prune: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "stock_logits", here)
    code, said, errors = prune("--blocks", "0", "--json", model=variants.save("rwkv-7", tmp_path))
    assert code == 0, errors
    record = json.loads(said)
    assert record["rerooted"]
    assert [path.name for path in (tmp_path / "out").glob("*.pth")] == ["rwkv-7.pth"]
    assert "source of RWKV-7's v_first" in (tmp_path / "out" / "README.md").read_text()


def test_the_gate_exits_1_and_writes_nothing(prune: Callable, tmp_path: Path, folder: Path, prose: Path) -> None:
    model, text = load(folder, device="cpu"), Text(corpus=str(prose), window=32, documents=14)
    rise = measure_loss(model, nested([2]), text).rises[-1].value  # below zero: random weights only get better
    code, _, errors = prune("--blocks", 2, f"--max-nll-increase={rise - 0.01}")
    assert code == 1
    assert "nothing is written" in errors
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("change", [1e-6, 1.0])
def test_one_weight_changed_between_write_and_check(
    prune: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: float
) -> None:
    def spoiled(reader: str, path: Path, *rest: object) -> torch.Tensor:
        tensors = load_file(path / "model.safetensors")
        tensors["model.layers.0.mlp.up_proj.weight"][0, 0] += change
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
        return here(reader, path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoint, "stock_logits", spoiled)
    code, _, errors = prune("--blocks", "1")
    assert code == 2
    assert "is not the ablated model" in errors
    assert not list(tmp_path.iterdir())


def test_other_logits_of_the_same_bytes_are_seen(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "stock_logits", lambda *given: here(*given) * 1.001)
    model = load(folder, device="cpu")
    (tmp_path / "out").mkdir()
    store = Source.of(str(folder), model.spec).write([1], tmp_path / "out", "safetensors")
    with pytest.raises(StrataError, match="is not the ablated model"):
        verify(model, [1], tmp_path / "out", "strata", store.hash)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--remove", "5"], "at least one must stay"),
        (["--remove", "0"], "give a number from 1 to 4"),
        (["--blocks", "0,1,2,3,4"], "all 5 blocks"),
        (["--blocks", "1,1"], "block 1 is named twice"),
        (["--blocks", "5"], "has blocks 0 to 4"),
        (["--blocks", "one"], "not a list of block indices"),
        (["--ratio", "0.25"], "which is no number of them: give --remove 1 (ratio 0.200) or --remove 2 (ratio 0.400)"),
        (["--by", "bj", "--remove", "1"], "bi"),
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
    assert count_of(0.28, 32) == 9
    assert count_of(0.25, 40) == 10
    with pytest.raises(StrataError, match=r"--remove 7 \(ratio 0.233\) or --remove 8 \(ratio 0.267\)"):
        count_of(0.25, 30)
