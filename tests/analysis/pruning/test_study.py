"""The study of removal, from a small model and a text to tables, words and figures."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from adapters import Ablation, BlockModel, load
from adapters.checkpoints.export import Source
from analysis.data.batches import batches
from analysis.display import removal_plots
from analysis.display.format import bounded
from analysis.paper import shortgpt as paper
from analysis.pruning import study
from analysis.pruning.results import RemovalResult
from analysis.pruning.speed import memory, speeds
from analysis.removal import search
from analysis.removal.orders import ORDERS, RANDOM, Calibration
from analysis.removal.paths import RemovalPath, size
from analysis.runs.budgets import Budget
from analysis.runs.run import Run
from analysis.runs.settings import RunConfig
from tests.reference import variants
from tests.reference.models import pair, save_reader

BLOCKS = 4
SIZES = Budget(24, 14, None)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> BlockModel:
    folder = tmp_path_factory.mktemp("models") / "reader"
    folder.mkdir()
    save_reader(folder, num_hidden_layers=BLOCKS)
    return load(folder, device="cpu")


@pytest.fixture(scope="module")
def found(model: BlockModel, prose: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RemovalResult, Path]:
    out = tmp_path_factory.mktemp("runs")
    return study.removal(model, RunConfig(SIZES, out, str(prose))), out


def test_every_order_is_scored_from_none_to_all_but_one(found: tuple[RemovalResult, Path], model: BlockModel) -> None:
    result, _ = found
    assert result.whole.keys() == ORDERS.keys()
    assert not result.seconds
    assert len(result.null) == RANDOM
    for name, rows in result.table.groupby("order"):
        assert rows["removed"].min() == 0
        assert rows["removed"].max() == BLOCKS - (0.5 if name == "sublayers" else 1), name
    assert result.table.loc[result.table["removed"] == 0, "value"].eq(0).all()
    assert result.table["ci_low"].notna().all()


def test_losses_are_those_of_running_the_ablated_model(found: tuple[RemovalResult, Path], model: BlockModel) -> None:
    result, _ = found
    for path in (result.whole["greedy"], result.whole["angular"]):
        for ablation in path:
            total = 0.0
            for batch in batches(result.text.windows(model), model):
                logits = model.run(batch.ids, ablation).double().log_softmax(-1)
                picked = logits[:, :-1].gather(-1, batch.ids[:, 1:, None])[..., 0]
                real = torch.arange(1, batch.ids.shape[1]) < batch.lengths[:, None]
                total -= float(picked[real].sum())
            assert np.sum(result.scored.nll[ablation]) == pytest.approx(total, rel=1e-6)


def test_a_second_execution_scores_nothing_again(
    found: tuple[RemovalResult, Path], model: BlockModel, prose: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, out = found
    monkeypatch.setattr(search, "ORDERS", {n: o._replace(search=None) for n, o in search.ORDERS.items()})
    again = study.removal(model, RunConfig(SIZES, out, str(prose)))
    assert again.whole == first.whole
    assert again.table.equals(first.table)


def test_orders_are_found_again_when_the_corpus_has_changed(
    model: BlockModel, prose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, text = tmp_path / "corpus.txt", prose.read_text(encoding="utf-8")
    read, bi = [], search.ORDERS["bi"]

    def noted(found_on: Calibration, *rest: Any) -> RemovalPath:
        read.append([window.id for batch in found_on.batches for window in batch.windows])
        return bi.search(found_on, *rest)

    monkeypatch.setattr(search, "ORDERS", {"bi": bi._replace(search=noted)})
    config = RunConfig(SIZES, tmp_path / "runs", str(corpus))
    for part in (text[: len(text) // 2], text[: len(text) // 2], text[len(text) // 2 :]):
        corpus.write_text(part, encoding="utf-8")
        search.find_paths(model, config.text(8).at_most(8, model), config, 1e12)
    assert len(read) == 2  # the second study finds what the first has kept
    assert not set(read[0]) & set(read[1])


def test_a_search_that_is_killed_goes_on_with_the_round_it_was_in(
    found: tuple[RemovalResult, Path], model: BlockModel, prose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, orders = Run.write_json, ("iterative_bi", "greedy", "sublayers")
    lengths: list[int] = []

    def killed(run: Run, name: str, data: object) -> None:
        write(run, name, data)
        if name == "path.json" and run.identity["order"] in orders:
            lengths.append(len(list(data)))  # type: ignore[call-overload]
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "write_json", killed)
        for _ in range(12):  # 3 + 3 + 6 removals, a kill after each
            with pytest.raises(KeyboardInterrupt):
                study.removal(model, RunConfig(SIZES, tmp_path, str(prose)))
    assert lengths == [2, 3, 4, 2, 3, 4, 2, 3, 4, 5, 6, 7]
    assert study.removal(model, RunConfig(SIZES, tmp_path, str(prose))).whole == found[0].whole


def test_a_short_budget_says_what_it_leaves_out(model: BlockModel, prose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "POINTS", (1000, 2))
    monkeypatch.setattr(study, "speed", lambda model, window: 1e6)
    result = study.removal(model, RunConfig(Budget(24, 14, 1e-3), tmp_path, str(prose), documents=14))
    assert "greedy" in result.seconds
    assert "greedy blocks (about" in result.skipped
    assert {tuple(map(size, result.scored.paths[name])) for name in result.titles if name != "sublayers"} == {(0, BLOCKS - 1)}
    assert compared(result.conclusion) == [BLOCKS - 1]


def test_sets_of_the_papers_size_are_scored_in_a_short_budget(
    model: BlockModel, prose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two points of a path are none and all but one: its quarter, and what the paper removed from the model, come on top."""
    monkeypatch.setattr(search, "POINTS", (2,))
    monkeypatch.setitem(paper.REMOVED, model.spec.name, (2,))
    result = study.removal(model, RunConfig(SIZES, tmp_path, str(prose)))
    assert [size(a) for a in result.scored.paths["bi"]] == [0, BLOCKS - 1]
    first = result.removed.iloc[0]
    assert first.tolist() == ["the paper, Table 4", "2", bounded(result.scored.rise(Ablation(blocks=frozenset({2}))))]
    rises = result.removed.set_index("order")["rise in loss"]
    assert rises["greedy blocks"] == bounded(result.scored.rise(result.whole["greedy"][1]))
    assert "and those without 1 block, including the paper's" in result.facts.set_index("").loc["Sets", "measured"]


def compared(said: str) -> list[int]:
    """The numbers of blocks in sentences on which order wins: `With 1 and 4 blocks removed, ...`, `With 1 to 3 blocks removed, ...`."""
    found = []
    for listed in re.findall(r"With ([\d, toand]+) blocks? removed, (?!the best order)", said):
        for first, last in re.findall(r"(\d+)(?: to (\d+))?", listed):
            found += range(int(first), int(last or first) + 1)
    return sorted(found)


def test_tables_words_and_figures(found: tuple[RemovalResult, Path]) -> None:
    result, _ = found
    assert result.paper_n_removed == 1
    assert result.strategies["removes blocks"].tolist()[0] == "from the first block forwards"
    assert len(result.removed) == len(result.whole) - 1
    assert all(title in result.breaks for title in result.titles.values())
    assert compared(result.contest) == list(range(1, BLOCKS))
    assert result.conclusion.endswith(result.contest)
    assert len(result.doubling) == len(result.whole)
    assert result.gain["parameters (M)"].is_monotonic_decreasing
    figure = removal_plots.removal_curves(result.table, result.titles, result.panels, random=result.random)
    assert [len(ax.lines) for ax in figure.axes] == [6, 6]
    lines = {str(line.get_label()): line for line in figure.axes[1].lines}
    greedy = result.table[result.table["order"] == "greedy"]
    assert np.asarray(lines["greedy blocks"].get_ydata()) == pytest.approx(greedy["value"].to_numpy())
    figure = removal_plots.removal_curves(result.table, result.titles, result.savings, random=result.random)
    assert [len(ax.lines) for ax in figure.axes] == [6], "where only blocks go, the shares are multiples of their number"
    (panel,) = result.savings
    assert panel.column == "block parameters"
    assert panel.label.startswith("the blocks' parameters removed\n(all parameters 0."), panel.label
    assert result.each.startswith(f"A block is {100 / BLOCKS:.3g}"), result.each
    shares = {str(line.get_label()): line for line in figure.axes[0].lines}["greedy blocks"].get_xdata()
    assert np.asarray(shares) == pytest.approx(greedy["block parameters"].to_numpy())
    assert len(removal_plots.removed_map(result.sets, BLOCKS).axes[0].get_yticks()) == len(result.sets)


def test_tables_3_and_4_say_what_their_sets_give(found: tuple[RemovalResult, Path]) -> None:
    result, _ = found
    for table, title in ((result.strategies, "strategy"), (result.removed, "order")):
        for name in ("sequential", "bi"):
            (row,) = table[table[title] == result.titles[name]]["rise in loss"]
            assert row == bounded(result.scored.rise(result.whole[name][1]))


def test_the_size_of_the_file_is_that_of_what_is_written(
    model: BlockModel, found: tuple[RemovalResult, Path], prose: Path, tmp_path: Path
) -> None:
    _, out = found
    dense = tmp_path / "dense"
    dense.mkdir()
    save_reader(dense, num_hidden_layers=BLOCKS)
    source = Source.of(str(dense), model.spec)
    result = study.removal(model, RunConfig(SIZES, out, str(prose)), source)
    (tmp_path / "short").mkdir()
    source.write(result.whole["bi"][1].blocks, tmp_path / "short", "safetensors")
    for found_size, folder in zip(result.gain["file (MB)"], (dense, tmp_path / "short"), strict=True):
        tensors = load_file(folder / "model.safetensors")
        assert found_size == sum(t.nbytes for t in tensors.values()) / 1e6
    assert "% of the file" in result.speedup
    assert result.precision == "in the precision of the source"
    assert "GGUF" in replace(source, asked="smollm2").precision
    assert "file (MB)" not in found[0].gain


def test_what_an_rwkv_7_without_block_0_is_measured_as_is_said(found: tuple[RemovalResult, Path]) -> None:
    result, _ = found
    seven = variants.model("rwkv-7")
    assert "v_first" in replace(result, model=seven).limits
    assert "v_first" not in result.limits


@pytest.mark.parametrize("variant", ["llama", "baichuan2-7b", "rwkv-6"])
def test_speeds_of_every_family(variant: str) -> None:
    dense = pair("llama")[0] if variant == "llama" else variants.model(variant)
    short = dense.with_blocks(dense.blocks[1:])
    table = speeds({"dense": dense, "short": short}, 8, 2)
    assert table["model"].tolist() == ["dense", "short"]
    assert (table[["prefill", "decode"]] > 0).all(axis=None)
    assert memory(dense) - memory(short) == 4 * (dense.spec.n_params - short.spec.n_params)
    assert table["active"].tolist() == table["parameters"].tolist() == [dense.spec.n_params, short.spec.n_params]


def test_parameters_that_a_token_meets_stand_beside_all(found: tuple[RemovalResult, Path]) -> None:
    result, sparse = found[0], pair("mixtral", num_local_experts=5)[0]
    table = speeds({"unpruned": sparse}, 8, 2)
    assert table["active"].tolist() == [sparse.spec.active_params]
    assert sparse.spec.active_params < sparse.spec.n_params
    gain = replace(result, model=sparse, bought=table).gain
    assert gain["a token meets (M)"].tolist() == [sparse.spec.active_params / 1e6]
    assert "a token meets (M)" not in result.gain
