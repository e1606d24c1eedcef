"""A comparison of small models with different tokenizers, from their files to its tables, and what it refuses."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from adapters import Ablation, BlockModel, StrataError, load
from analysis.comparison import plots
from analysis.comparison.redundancy import SUMMARIES
from analysis.comparison.results import Comparison
from analysis.comparison.study import compare
from analysis.comparison.trajectory import TITLES, Trajectory, checkpoints, trajectory
from analysis.parameters import ComparisonParameters
from analysis.runs.budgets import Budget
from analysis.runs.settings import RunConfig
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI
from analysis.zoo.architectures import ARCHITECTURES, VOCAB
from analysis.zoo.training import Plan
from tests.analysis.test_notebooks_on_variants import run as run_notebook
from tests.reference.models import save_reader
from tests.reference.naive import naive_nll
from tests.reference.variants import save
from tests.shared_data import shared

BUDGET = Budget(24, 3, 60.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text, a Llama that reads bytes behind a token in front, and an RWKV-5.2 that reads bytes alone."""
    folder = tmp_path_factory.mktemp("compare")
    (folder / "text.txt").write_text("".join(f"Line {i}: {i} times {i} is {i * i}, café 天 {i % 7}.\n" for i in range(6000)))
    (folder / "llama").mkdir()
    save_reader(folder / "llama")
    save("rwkv-5.2", folder)
    return folder


@pytest.fixture(scope="module")
def sources(folder: Path) -> list[str]:
    return [str(folder / "llama"), str(folder / "rwkv-5.2.pth")]


def loader(source: str) -> BlockModel:
    return load(source, device="cpu", dtype="float32")


def run(sources: list[str], folder: Path, out: Path, facts: dict[str, Any] | None = None, **options: Any) -> Comparison:
    return Comparison(
        compare(sources, loader, facts or {}, RunConfig(BUDGET, out, str(folder / "text.txt"), **({"documents": 3} | options)))
    )


def test_three_kinds_of_architectures(sources: list[str], folder: Path, tmp_path: Path) -> None:
    """A state-space model has no halves of blocks; all else of it stands beside the others."""
    (tmp_path / "mamba2").mkdir()
    save_reader(tmp_path / "mamba2", model_type="mamba2", state_size=8, num_heads=4, head_dim=24, n_groups=1)
    study = run([*sources, str(tmp_path / "mamba2")], folder, tmp_path / "out")
    assert [set(m.singles) for m in study.of.models] == [{"blocks", "mixers", "ffns", "heads"}] * 2 + [{"blocks", "heads"}]
    losses = study.losses
    assert losses.loc[losses["model"] == "mamba2", "kind"].unique().tolist() == ["blocks", "heads"]
    assert {frozenset(c.architectures) for c in study.contrasts} == {
        frozenset(pair) for pair in (("Transformer", "RWKV"), ("Transformer", "Mamba"), ("RWKV", "Mamba"))
    }
    assert set(losses.groupby("model")["architecture"].first()) == {"Transformers", "RWKVs", "state-space models"}
    for figure in (plots.losses(losses, "blocks"), plots.sublayers(losses), plots.heads(losses), plots.influence(study.bi)):
        assert figure.axes


def test_models_of_different_tokenizers_on_the_same_bytes(sources: list[str], folder: Path, tmp_path: Path) -> None:
    study = run(sources, folder, tmp_path)
    a, b = study.of.models
    assert a.bytes.tolist() == b.bytes.tolist()
    assert a.unigram.tolist() == b.unigram.tolist()
    assert set(a.singles) == {"blocks", "mixers", "ffns", "heads"}
    assert len(b.singles["heads"].ablations) == 3 * 3, "RWKV-5.2 has heads as well"
    losses = study.losses
    assert set(losses["model"]) == {"llama", "rwkv-5.2"}
    assert losses[losses["kind"] == "blocks"].groupby(["model", "unit"]).size().loc[:, "bits"].tolist() == [3, 3]
    assert losses.loc[losses["kind"] == "mixers", "depth"].unique().tolist() == [0, 0.5, 1]

    reference = save_reader(tmp_path / "reference") if (tmp_path / "reference").mkdir() is None else None
    text = study.of.text
    for i, window in enumerate(text.windows(loader(sources[0]))):
        tokens = re.findall(rb"Li|.", window.text.encode(), re.DOTALL)
        ids = torch.tensor([[256, *(257 if token == b"Li" else token[0] for token in tokens)]])
        scored = torch.tensor([len(token) for token in tokens]).cumsum(0) > window.unscored
        dense, without = (float(naive_nll(reference, ids, x).flatten()[scored].sum()) for x in (Ablation(), a.path.ablations[1]))
        assert a.dense[i] == pytest.approx(dense / np.log(2), rel=1e-5)
        assert a.path.bits[1, i] == pytest.approx((without - dense) / np.log(2), abs=1e-3)


def test_removal_paths_are_nested_from_the_cheapest_on_calibration_text(sources: list[str], folder: Path, tmp_path: Path) -> None:
    for m in run(sources, folder, tmp_path).of.models:
        assert [len(a.blocks) for a in m.path.ablations] == [1, 2, 3]
        assert all(a.blocks < b.blocks for a, b in zip(m.path.ablations, m.path.ablations[1:], strict=False))


def test_what_is_there_is_not_measured_again(sources: list[str], folder: Path, tmp_path: Path) -> None:
    first = run(sources, folder, tmp_path, documents=2)
    records = {path: path.read_bytes() for path in tmp_path.rglob("*.jsonl")}
    again = run(sources, folder, tmp_path, documents=None)
    assert again.n_documents == first.n_documents == 2, "as many as were asked for before"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.jsonl")} == records
    assert again.losses.equals(first.losses)


def test_models_without_a_margin_are_shown_and_not_compared(sources: list[str], folder: Path, tmp_path: Path) -> None:
    """Random weights know less of text than how often its bytes come."""
    study = run(sources, folder, tmp_path)
    assert all(m.gain_over_unigram.sum() < 0 for m in study.of.models)
    assert set(study.losses["unit"]) == {"bits"}
    assert study.summaries["area"].tolist() == ["", ""]
    assert "cannot be compared" in study.conclusion
    assert "Not trained alike" in study.conclusion
    for figure in (plots.curves(study.curves), plots.influence(study.bi), plots.sublayers(study.losses)):
        assert figure.axes
    assert study.has_heads
    assert [len(ax.get_legend_handles_labels()[0]) for ax in plots.heads(study.losses).axes] == [2, 0], "in bits; there are no shares"
    assert len(study.facts) == len(study.summaries) == 2
    assert len(study.differences) == 1
    assert study.spreads.empty


def changed(reference_folder: Path, out: Path, edit: Callable[[Path], object]) -> str:
    out.mkdir()
    for path in reference_folder.iterdir():
        (out / path.name).symlink_to(path)
    edit(out)
    return str(out)


def test_what_cannot_be_compared(sources: list[str], folder: Path, tmp_path: Path) -> None:
    llama = folder / "llama"
    mute = changed(llama, tmp_path / "mute", lambda to: (to / "tokenizer.json").unlink())
    (tmp_path / "other").mkdir()
    twin = changed(llama, tmp_path / "other" / "llama", lambda to: None)
    budget = {
        "architecture": "Llama",
        "of_steps": 9,
        "n_params": 5,
        "data": "d",
        "tokenizer": "t",
        "recipe": {},
        "weights": "",
        "equals": None,
    }
    mixed = {str(source): budget | {"seed": i, "tokens": 100 + i, "weights": ""} for i, source in enumerate(sources)}
    for names, facts, says in (
        (sources[:1], {}, "cannot be compared"),
        ([sources[0]] * 2, {}, "named twice"),
        ([sources[0], mute], {}, "no common corpus: .*mute comes without a tokenizer"),
        ([sources[0], twin], {}, "several models have the same name"),
        (sources, mixed, "are not a seed group: tokens is 100 and 101"),
    ):
        with pytest.raises(StrataError, match=says):
            run(names, folder, tmp_path / "out", facts)
        assert not list(tmp_path.rglob("*.jsonl"))


def test_real_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained models have a margin: intervals, differences and words about these two."""
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path / "cache"))
    names = [str(shared(f"models/{name}")) for name in ("stories260K/stories260K.gguf", "rwkv/tiny-rwkv-5v2-730K.pth")]
    corpus = str(shared("text/books-en/botchan.txt"))
    study = Comparison(compare(names, loader, {}, RunConfig(Budget(48, 3, 60.0), tmp_path / "runs", corpus, MIN_DOCUMENTS_FOR_CI)))
    for m in study.of.models:
        assert m.gain_over_unigram.sum() > 0
        area = m.summaries["area"].interval
        assert 0 < area.low <= area.value <= area.high < 1
    shares = study.losses[study.losses["unit"] == "share"].reset_index()
    bits = study.losses[study.losses["unit"] == "bits"].reset_index()
    margins = {m.spec.name: m.gain_over_unigram.sum() / m.bytes.sum() for m in study.of.models}
    assert shares["value"].to_numpy() == pytest.approx((bits["value"] / bits["model"].map(margins)).to_numpy())
    assert study.conclusion.count("significant") >= 1
    assert study.conclusion.count("not about architectures") == 1
    assert study.spreads.empty
    assert "the variation between seeds is not known" in study.spread
    assert set(study.curves["share"].round(3)) >= {0, 0.2, 1}
    assert study.has_heads
    assert [len(ax.get_legend_handles_labels()[0]) for ax in plots.heads(study.losses).axes] == [2, 2]


def test_seeds_are_put_beside_each_other(sources: list[str], folder: Path, tmp_path: Path) -> None:
    same = {
        "architecture": "Both",
        "of_steps": 9,
        "n_params": 5,
        "data": "d",
        "tokenizer": "t",
        "recipe": {},
        "equals": None,
        "tokens": 100,
    }
    facts = {source: same | {"seed": i, "weights": loader(source).spec.source_hash} for i, source in enumerate(sources)}
    with pytest.raises(StrataError, match=r"llama holds other weights than those its zoo\.json tells of"):
        run(sources, folder, tmp_path, facts | {sources[0]: facts[sources[0]] | {"weights": "other"}})
    study = run(sources, folder, tmp_path, facts)
    assert study.spreads["summary"].tolist() == [s.title for s in SUMMARIES.values() if s.source != "against"]
    assert study.differences.empty


def fill(source: Path, to: Path) -> None:
    """The tokenizer with tokens that no text has, as many as the zoo's embeddings have rows."""
    tokenizer = Tokenizer.from_file(str(source))
    tokenizer.add_special_tokens([f"<unused {i}>" for i in range(tokenizer.get_vocab_size(), VOCAB)])
    tokenizer.save(str(to))


def trained(name: str, folder: Path, out: Path) -> Path:
    """A folder as training leaves it after four steps; the weights are random."""
    model, seed = name.split("-")
    (out / name / "weights").mkdir(parents=True)
    fill(folder / "llama" / "tokenizer.json", out / name / "tokenizer.json")
    made = ARCHITECTURES[model]
    for step in (0, 4):
        weights, blocks = made.initial(torch.Generator().manual_seed(step + int(seed)))
        tensors = {key: t.half() for key, t in made.layout.write(weights, blocks).items()}
        save_file(tensors, out / name / "weights" / f"{step:06}.safetensors")
    plan = asdict(Plan(model=model, seed=int(seed), steps=4, data="d", tokenizer="t"))
    torch.save({"plan": plan, "losses": [7.0] * 4, "curve": {0: 7.6, 4: 7.0}}, out / name / "state.pt")
    return out / name


def test_redundancy_over_training(folder: Path, tmp_path: Path) -> None:
    """Kept weights of the zoo's working folder: step by step, on the same bytes."""
    out = trained("llama-0", folder, tmp_path)
    found = trajectory({"llama-0": checkpoints(out, device="cpu")}, RunConfig(BUDGET, tmp_path / "runs", str(folder / "text.txt"), 2))
    bits = found.rows[found.rows["measure"] == "bits"]
    assert bits["step"].tolist() == [0, 4]
    assert bits["value"].nunique() == 2
    assert "is not known" in found.conclusion
    drawn = plots.training(pd.concat([bits.assign(measure=measure) for measure in TITLES]), TITLES)
    assert [len(ax.lines) for ax in drawn.axes] == [1, 1, 1]
    with pytest.raises(StrataError, match=r"holds weights of the steps \[0, 4\]"):
        checkpoints(out, [0, 7])
    with pytest.raises(ValueError, match="no rows"):
        plots.training(found.rows, {"nothing": "Nothing"})
    config = RunConfig(BUDGET, tmp_path / "runs", str(folder / "text.txt"), 2)
    with pytest.raises(StrataError, match="rwkv5-0 has no checkpoints"):
        trajectory({"llama-0": checkpoints(out, [0], device="cpu"), "rwkv5-0": {}}, config)
    other = trained("rwkv5-0", folder, tmp_path)
    (tmp_path / "own").mkdir()
    save_reader(tmp_path / "own", bos=False)
    fill(tmp_path / "own" / "tokenizer.json", other / "tokenizer.json")
    with pytest.raises(StrataError, match="rwkv5-0 has another tokenizer"):
        trajectory({name: checkpoints(tmp_path / name, [0], device="cpu") for name in ("llama-0", "rwkv5-0")}, config)


@pytest.mark.long
def test_the_notebook_shows_redundancy_over_training(sources: list[str], folder: Path, tmp_path: Path) -> None:
    for name in ("llama-0", "llama-1", "rwkv5-0"):
        trained(name, folder, tmp_path / "zoo")
    common = {"corpus": str(folder / "text.txt"), "documents": 2, "window": 24, "device": "cpu", "out": str(tmp_path / "runs")}
    names = run_notebook("comparison", models=sources, trainings=str(tmp_path / "zoo"), **common)
    over = names["over"]
    assert isinstance(over, Trajectory)
    assert {name: sorted(steps) for name, steps in over.trainings.items()} == {"llama-0": [0, 4], "llama-1": [0, 4], "rwkv5-0": [0, 4]}
    assert over.n_documents == 2
    assert over.conclusion.count("grows during training is not known") == 3
    assert set(over.start.trainings) == {"Llama", "RWKV-5.2"}


@pytest.mark.parametrize("models", ["a, b/c.pth", ["a", "b/c.pth"], "['a', 'b/c.pth']"])
def test_models_as_text_or_list(models: object) -> None:
    assert ComparisonParameters.of({"models": models, "seed": 3}).models == ["a", "b/c.pth"]


@pytest.mark.parametrize(
    ("names", "says"), [({"model": "a"}, "models"), ({"models": "[a"}, "a list of models looks like"), ({"models": 3}, "list")]
)
def test_bad_models(names: dict[str, object], says: str) -> None:
    with pytest.raises(StrataError, match=says):
        ComparisonParameters.of(names)
