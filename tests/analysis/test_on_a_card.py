"""Every study of trained models on a pretended card: what it says, and in how much memory it runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import strata
from adapters import BlockModel, load
from adapters.checkpoints.stock import stock_logits
from analysis.checkpoints import write
from analysis.data.batches import Text, batches
from analysis.methods.table import METHODS
from analysis.pruning.speed import memory, speeds
from analysis.removal.orders import ORDERS
from analysis.zoo import texts as zoo_texts
from analysis.zoo import training
from analysis.zoo.architectures import ARCHITECTURES
from analysis.zoo.groups import DEPTH
from analysis.zoo.texts import Texts
from analysis.zoo.training import Plan, Training
from tests.analysis.tasks.makers import sentence, write_lines
from tests.analysis.zoo.test_zoo import documents
from tests.reference.second_device import Card, second_device

GB = 1 << 30
MODELS = ("zoo-llama-0", "zoo-rwkv7-0")
Study = Callable[[BlockModel, Text, Path], object]


@pytest.fixture
def card() -> Iterator[Card]:
    with second_device(free=80 * GB) as found:
        yield found


@pytest.fixture
def text(prose: Path) -> Text:
    return Text(corpus=str(prose), documents=6, window=24)


def swept(model: BlockModel, text: Text, out: Path) -> None:
    kinds = ["blocks", *(["heads"] if model.spec.has_heads else [])]
    some = strata.single_ablations(model, *kinds, edits=("zero", "mean"))[::6]
    found = strata.sweep(model, some, text, out=out)
    assert json.loads((out / "manifest.json").read_text())["identity"]["device"] == "cuda"
    assert (found.table["value"].notna()).all()


def measured(model: BlockModel, text: Text, out: Path) -> None:
    strata.importance(model, ["bi", "norm", "taylor"], text, kinds=("blocks", "ffns"), out=out)


def ordered(model: BlockModel, text: Text, out: Path) -> None:
    for name in ORDERS.own:
        assert len(strata.removal_order(model, name, text, 2)) >= 2, name


def pruned(model: BlockModel, text: Text, out: Path) -> None:
    read = list(batches(text.windows(model), model))
    for method in METHODS.own.values():
        if not method.lacks(model):
            made = method.prune(model, read, method.levels(model)[0])
            assert made.run(read[0].ids.to("cuda")).device == torch.device("cuda", 0), method.title


def timed(model: BlockModel, text: Text, out: Path) -> None:
    assert (speeds({"dense": model}, 8, 2)[["prefill", "decode"]] > 0).all(None)
    assert memory(model) > 0


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("study", [swept, measured, ordered, pruned, timed])
def test_studies(study: Study, name: str, card: Card, text: Text, tmp_path: Path) -> None:
    study(load(name), text, tmp_path / "run")
    assert 0 < card.peak < GB


@pytest.fixture(scope="module")
def rows() -> Texts:
    return Texts.of(documents())


@pytest.mark.parametrize("kind", [name for name, made in ARCHITECTURES.items() if not DEPTH.search(made.title)])
def test_training(kind: str, card: Card, rows: Texts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step, and another from the save."""
    for name, value in (("DEVELOPMENT_ROWS", 2), ("SAVE", 2), ("WARM_UP", 2)):
        monkeypatch.setattr(training, name, value)
    monkeypatch.setattr(zoo_texts, "CONTEXT", 32)
    plan = Plan(model=kind, seed=0, steps=2, data="d", tokenizer="t", batch=2)
    made = Training(plan, rows, tmp_path, "cuda")
    made.step()
    made.save()
    again = Training(plan, rows, tmp_path, "cuda")
    again.run()
    assert again.losses[0] == made.losses[0]
    assert {t.device for table in again.tables for t in table.values()} == {torch.device("cuda", 0)}
    assert 0 < card.peak < GB


@pytest.mark.parametrize("by", ["bi", "greedy"])
@pytest.mark.parametrize("name", MODELS)
def test_pruning(name: str, by: str, card: Card, text: Text) -> None:
    found, expected = (strata.prune(load(name, device=device, dtype="float32"), by, text, n=2) for device in ("cuda", "cpu"))
    assert found.removed == expected.removed
    assert found.rise.value == pytest.approx(expected.rise.value, abs=1e-4)
    assert {t.device for block in found.model.blocks for t in block.weights.values()} == {torch.device("cuda", 0)}
    assert 0 < card.peak < GB


@pytest.mark.long
def test_a_checkpoint_is_read_back(card: Card, text: Text, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a process that has no card of any kind."""
    monkeypatch.setattr(write, "stock_logits", lambda reader, path, ids, device, dtype: stock_logits(reader, path, ids, "cpu", dtype))
    record = strata.prune(load("zoo-llama-0"), "bi", text, n=1).save(tmp_path / "pruned")
    assert record["computed"]["device"] == "cuda"
    assert record["written"]["error_over_std"] < 1e-4


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    rows = [{"goal": sentence(i, 5), "sol1": sentence(i + 50, 4), "sol2": sentence(i + 90, 6)} for i in range(4)]
    write_lines(tmp_path / "piqa/valid.jsonl", map(json.dumps, rows))
    write_lines(tmp_path / "piqa/valid-labels.lst", (str(i % 2) for i in range(4)))
    return tmp_path


@pytest.mark.long
@pytest.mark.parametrize("name", MODELS)
def test_benchmarks(name: str, questions: Path, tmp_path: Path) -> None:
    with second_device(free=80 * GB):
        model = load(name, dtype="float32")
        found = strata.evaluate(model, "piqa", strata.single_ablations(model)[:2], data=questions, out=tmp_path / "run").table
    model = load(name, device="cpu")
    expected = strata.evaluate(model, "piqa", strata.single_ablations(model)[:2], data=questions, out=tmp_path / "cpu").table
    assert list(found["value"]) == pytest.approx(list(expected["value"]), abs=1e-4)
