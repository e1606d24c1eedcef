"""Experts on the command line: swept, measured, written without, and refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import strata as api
from adapters import Ablation, load
from analysis.data.batches import Text, batches
from analysis.engine.ablations import single_ablations
from analysis.engine.plan import plan
from analysis.engine.sweep import sweep
from analysis.metrics.metrics import measure
from tests.reference.command_line import Done
from tests.reports.conftest import save_tiny


@pytest.fixture(scope="module")
def sparse_folder(tmp_path_factory: pytest.TempPathFactory, prose: Path) -> Path:
    """Two of five experts in each of three blocks."""
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny-mixtral", prose, "mixtral", num_local_experts=5)


@pytest.fixture
def read(prose: Path) -> list[object]:
    return ["--corpus", prose, "--tokens", 13 * 32, "--window", 32]


def test_a_sweep_and_what_the_router_does(strata: Callable[..., Done], sparse_folder: Path, read: list[object], tmp_path: Path) -> None:
    out = tmp_path / "run"
    dry = strata("sweep", sparse_folder, *read, "--kind", "experts", "--dry-run", "--json")
    cost = json.loads(dry.stdout)
    assert (cost["mixer_rows"], cost["again_rows"]) == (1 + 6 + 11, pytest.approx(3 * 2))  # two experts of each token, in three blocks
    done = strata("sweep", sparse_folder, *read, "--kind", "experts", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "expert" in done.stdout
    table = pd.read_csv(out / "summary.csv")
    rises = table[table["metric"] == "delta_nll"]
    assert rises[["block", "expert"]].dropna().to_numpy().tolist() == [[i, e] for i in range(3) for e in range(5)]
    assert rises["ablation"].iloc[-1] == "experts 2.4"
    done = strata("importance", sparse_folder, *read, "--kind", "experts", "--metric", "all", "--out", tmp_path / "router")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "router" / "summary.csv")
    assert table[table["metric"] == "load"]["value"].sum() == pytest.approx(3 * 2)
    assert table[table["metric"] == "router_weight"]["value"].sum() == pytest.approx(3)


def test_a_checkpoint_with_fewer_experts(strata: Callable[..., Done], sparse_folder: Path, read: list[object], tmp_path: Path) -> None:
    out = tmp_path / "fewer"
    done = strata("prune", sparse_folder, *read, "--experts", "0.3,1.0,2.4", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "without experts 0.3, 1.0 and 2.4 the loss rises by" in done.stdout
    assert re.search(r"^read .* documents, \d+ of them held-out", done.stdout, flags=re.M)
    assert re.search(r"^parameters [\d,]+ of [\d,]+, of which a token meets [\d,]+ of [\d,]+$", done.stdout, flags=re.M)
    record = json.loads((out / "strata.json").read_text())
    dense, few = load(sparse_folder, dtype="float32", device="cpu"), load(out, dtype="float32", device="cpu")
    assert record["parameters"] == {"dense": dense.spec.n_params, "pruned": few.spec.n_params}
    met = {"dense": dense.spec.active_params, "pruned": few.spec.active_params}
    assert record["experts"] == {"removed": [[0, 3], [1, 0], [2, 4]], "active_parameters": met}
    assert [block.n_experts for block in few.spec.blocks] == [4, 4, 4]
    card = (out / "README.md").read_text()
    assert "without 3 of its 15 experts" in card
    assert "of which a token meets" in card
    assert "| 3 | experts 0.3, 1.0 and 2.4 |" in card


@pytest.mark.parametrize("by", ["load", "nll"])
def test_the_lowest_of_each_block_go(
    by: str, strata: Callable[..., Done], sparse_folder: Path, prose: Path, read: list[object], tmp_path: Path
) -> None:
    done = strata("prune", sparse_folder, *read, "--kind", "experts", "--by", by, "--remove", 2, "--out", tmp_path / "fewer")
    assert done.returncode == 0, done.stderr
    model = load(sparse_folder, dtype="float32", device="cpu")
    windows = batches(Text(corpus=str(prose), split="calibration", window=32, documents=13).windows(model), model)
    singles = plan(model.spec, single_ablations(model.spec, ["experts"]))
    values = np.zeros(15)
    for batch in windows:
        if by == "load":
            values += measure(model, batch.ids, batch.lengths, [by], kinds=["experts"])[by].sum(1)
        else:
            values += sweep(model, singles, batch.ids, batch.lengths, kl=False)["nll"].sum(1).numpy()[1:]
    lowest = values.reshape(3, 5).argsort(1, kind="stable")
    record = json.loads((tmp_path / "fewer" / "strata.json").read_text())
    assert record["experts"]["removed"] == [[i, e] for i in range(3) for e in sorted(lowest[i, :2].tolist())]
    first = Ablation.from_json(record["order"]["sets"][1])
    assert first == Ablation(experts={(i, int(lowest[i, 0])) for i in range(3)})
    few = load(tmp_path / "fewer", dtype="float32", device="cpu")
    assert [block.n_experts for block in few.spec.blocks] == [3, 3, 3]
    again = api.prune(model, by, Text(corpus=str(prose), window=32, documents=13), n=2, kinds=["experts"])
    assert again.out == Ablation(experts={tuple(part) for part in record["experts"]["removed"]})


def test_text_without_an_expert(strata: Callable[..., Done], sparse_folder: Path) -> None:
    done = strata("generate", sparse_folder, "--without", "experts 0.3,1.2", "--prompt", "The", "--max-tokens", 4, "--json")
    assert done.returncode == 0, done.stderr
    written = [Ablation.from_json(row["ablation"]) for row in json.loads(done.stdout)]
    assert written == [Ablation(), Ablation(experts={(0, 3), (1, 2)})]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["--experts", "0.3"],
            "4 experts would stay in block 0 and 5 in block 1: stock loaders hold one number for all blocks with experts",
        ),
        (["--experts", "0.5,1.0,2.0"], "expert 5 of block 0 is out of range: the block has experts 0 to 4"),
        (["--experts", "3,1"], "--experts 3,1 is not a list of experts: give block and number of each, for example --experts 0.3,1.6"),
        (["--kind", "experts", "--remove", "5"], "5 of 5 experts of each block are to be removed: give a number from 1 to 4"),
        (["--kind", "experts", "--by", "greedy", "--remove", "1"], "unknown order of experts 'greedy'"),
        (["--kind", "experts,heads", "--by", "taylor", "--remove", "1"], "experts go in as many from each block, and other parts one by"),
        (["--by", "load", "--remove", "1"], "load is of experts, and other parts have no router: use --kind experts"),
        (["--experts", "0.3", "--blocks", "1"], "it is not clear how much to remove"),
        (["--experts", "0.3", "--by", "bi"], "--by bi and --experts both choose"),
        (["--remove", "1", "--method", "laco"], "LaCo cannot prune tiny-mixtral (mixtral): it takes blocks without experts; use another"),
    ],
)
def test_what_cannot_be_written(
    strata: Callable[..., Done], sparse_folder: Path, read: list[object], tmp_path: Path, words: list[str], says: str
) -> None:
    done = strata("prune", sparse_folder, *read, *words, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_models_without_experts(strata: Callable[..., Done], tiny_folder: Path, read: list[object], tmp_path: Path) -> None:
    done = strata("sweep", tiny_folder, *read, "--kind", "experts", "--out", tmp_path / "run")
    assert done.returncode == 2
    assert "has no experts: use --kind blocks, mixers or ffns" in done.stderr
    done = strata("prune", tiny_folder, *read, "--experts", "0.1", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "block 0 of tiny-llama (llama) has no experts: ablate its ffn instead" in done.stderr
