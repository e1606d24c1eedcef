"""Heads and sub-layers out of checkpoints: what is deleted, what is zero, and who reads it. All families: tests/reference/parity.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from adapters import Ablation, load
from adapters.checkpoints.export import Source
from adapters.errors import StrataError
from analysis.checkpoints import write
from analysis.checkpoints.cuts import cut
from analysis.data.batches import Text, batches
from analysis.engine.ablations import single_ablations
from analysis.engine.plan import plan
from analysis.engine.sweep import sweep
from analysis.metrics.taylor import taylor
from analysis.removal.greedy import greedy
from analysis.removal.savings import saved
from tests.analysis.checkpoints.test_prune import here
from tests.reference import variants
from tests.reference.command_line import Done, Strata
from tests.reference.models import pair, save_reader

BLOCKS, HEADS = 4, 4  # of which two share keys and values
IDS = torch.randint(3, 200, (2, 20), generator=torch.Generator().manual_seed(0))
HALF = ",".join(f"{i}.{h}" for i in range(BLOCKS) for h in (1, 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "dense"
    path.mkdir()
    save_reader(path, num_hidden_layers=BLOCKS)
    return path


@pytest.fixture
def prune(strata: Strata, folder: Path, prose: Path) -> Strata:
    def run(*words: object, model: Path = folder) -> Done:
        return strata("prune", model, "--corpus", prose, "--tokens", 12 * 24, "--window", 24, "--device", "cpu", *words)

    return run


@torch.inference_mode()
def as_transformers_reads(folder: Path) -> torch.Tensor:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(IDS).logits


@torch.inference_mode()
def assert_same(found: torch.Tensor, folder: Path, out: Ablation) -> None:
    """Logits are those of the ablation in memory of the model in `folder`."""
    expected = load(folder, device="cpu").run(IDS, out)
    assert (found - expected).abs().max() < 1e-4 * expected.std()


def text(prose: Path, split: str) -> Text:
    return Text(str(prose), split, window=24, documents=12)


def test_heads_chosen_by_hand_are_deleted_where_transformers_holds_the_rest(prune: Strata, folder: Path, tmp_path: Path) -> None:
    """With its own reader in a process of its own, as users have it."""
    done = prune("--without", f"heads {HALF}", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    dense = json.loads((folder / "config.json").read_text())
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (2, 2)
    assert config["head_dim"] == dense["hidden_size"] // HEADS
    out = Ablation(heads={(i, h) for i in range(BLOCKS) for h in (1, 2)})
    assert_same(as_transformers_reads(tmp_path / "out"), folder, out)
    record = json.loads((tmp_path / "out" / "strata.json").read_text())
    assert (record["out"], record["zeroed"]) == (out.to_json() | {"heads": [list(head) for head in sorted(out.heads)]}, False)
    model = load(folder, device="cpu")
    parameters = record["parameters"]
    assert parameters["pruned"] == parameters["needed"] == model.spec.n_params - saved(model, out).params < parameters["dense"]
    assert load(tmp_path / "out", device="cpu").spec.n_params == parameters["pruned"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "# dense without 8 of its 16 heads" in card
    assert "zero" not in card


@pytest.mark.parametrize(("without", "out"), [
    ("heads 1.0", Ablation(heads={(1, 0)})),
    ("mixers 2; ffns 0,3; heads 1.0,1.3", Ablation(mixers={2}, ffns={0, 3}, heads={(1, 0), (1, 3)})),
    ("blocks 1; heads 3.1; mixers 0", Ablation(blocks={1}, mixers={0}, heads={(3, 1)})),
])  # fmt: skip
def test_what_no_loader_leaves_out_is_zero(
    without: str, out: Ablation, prune: Strata, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "stock_logits", here)
    done = prune("--without", without, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert_same(as_transformers_reads(tmp_path / "out"), folder, out)
    written, dense = load_file(tmp_path / "out" / "model.safetensors"), load_file(folder / "model.safetensors")
    if not out.blocks:
        assert {key: t.shape for key, t in written.items()} == {key: t.shape for key, t in dense.items()}
        changed = {key for key, t in written.items() if not t.equal(dense[key])}
        assert all(key.endswith(("o_proj.weight", "down_proj.weight")) for key in changed)
        assert len(changed) == len(out.mixers) + len(out.ffns) + len({i for i, _ in out.heads})
    model = load(folder, device="cpu")
    needed = model.spec.n_params - saved(model, out).params
    assert f"A loader that leaves them out would need {needed:,} parameters: vLLM, llama.cpp and others" in done.stdout
    assert "is zero" in (tmp_path / "out" / "README.md").read_text()
    refused = prune("--without", without, "--cut", "delete")
    assert (refused.returncode, "give --cut zero, which every loader holds; vLLM, llama.cpp" in refused.stderr) == (2, True), refused


def test_rwkv_7_without_block_0_and_parts_is_as_it_is_read(prune: Strata, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rerooted, and without the same parts under their new numbers."""
    monkeypatch.setattr(write, "stock_logits", here)
    done = prune("--without", "blocks 0; heads 1.1,2.0; ffns 2", "--out", tmp_path / "out", model=variants.save("rwkv-7", tmp_path))
    assert done.returncode == 0, done.stderr
    found = load(tmp_path / "out", device="cpu")
    alone = prune("--blocks", "0", "--out", tmp_path / "alone", model=tmp_path / "rwkv-7.pth")
    assert alone.returncode == 0, alone.stderr
    ids = IDS % found.spec.vocab_size
    with torch.inference_mode():
        expected = load(tmp_path / "alone", device="cpu").run(ids, Ablation(heads={(0, 1), (1, 0)}, ffns={1}))
        assert (found.run(ids) - expected).abs().max() < 1e-4 * expected.std()


def test_heads_go_by_a_metric(prune: Strata, folder: Path, prose: Path) -> None:
    model = load(folder, device="cpu")
    heads = single_ablations(model.spec, ["heads"])
    read = list(batches(text(prose, "calibration").windows(model), model))
    by_taylor = np.sum([taylor(model, b.ids, b.lengths, kinds=["heads"]).sum(1) for b in read], axis=0)
    singly = plan(model.spec, heads)
    losses = np.sum([sweep(model, singly, b.ids, b.lengths, first=b.first)["nll"].sum(1).numpy() for b in read], axis=0)[1:]
    for order, values in (("taylor", by_taylor), ("nll", losses)):
        record = json.loads(prune("--by", order, "--kind", "heads", "--remove", 3, "--json").stdout)
        expected = {next(iter(heads[i].heads)) for i in np.argsort(values, kind="stable")[:3]}
        assert {tuple(head) for head in record["out"]["heads"]} == expected, order
        assert record["files"] == record["written"] == {}


def test_greedy_sub_layers_are_written(prune: Strata, folder: Path, prose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "stock_logits", here)
    done = prune("--by", "sublayers", "--remove", 3, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    model = load(folder, device="cpu")
    parts = single_ablations(model.spec, ["mixers", "ffns"])
    path = greedy(model, list(batches(text(prose, "calibration").windows(model), model)), parts, 3)
    assert_same(as_transformers_reads(tmp_path / "out"), folder, path[-1])
    same = json.loads(prune("--by", "greedy", "--kind", "mlp,attention", "--remove", 3, "--json").stdout)
    assert same["order"]["sets"][-1] == path[-1].to_json()


def test_a_ratio_of_parameters(prune: Strata, folder: Path) -> None:
    """What is out is what comes nearest: of equal blocks as many, of sub-layers as much."""
    assert len(json.loads(prune("--by", "bi", "--ratio", 0.25, "--params", "--json").stdout)["blocks"]["removed"]) == 1
    model = load(folder, device="cpu")
    mixer = model.spec.blocks[0].mixer_params / model.spec.block_params
    done = prune("--by", "reverse_order", "--kind", "mixers", "--ratio", 2 * mixer, "--params", "--json")
    assert json.loads(done.stdout)["out"] == {"mixers": [BLOCKS - 2, BLOCKS - 1]}
    refused = prune("--by", "bi", "--ratio", 0.4, "--params")
    said = "no set of this order takes out 0.4 of the block parameters, to within 0.015: the nearest are 0.250 (--remove 1) and 0.500"
    assert (refused.returncode, said in refused.stderr) == (2, True), refused.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--without", "heads 1.9"], "head 9 of block 1 is out of range: the block has heads 0 to 3"),
        (["--without", "tails 1.9"], "names no parts"),
        (["--without", ""], "nothing of dense is named that could go"),
        (["--without", "heads 1.0", "--remove", 1], "it is not clear how much to remove"),
        (["--without", "heads 1.0", "--kind", "heads"], "--kind heads and --without both choose"),
        (["--without", "heads 1.0", "--cut", "trim"], "unknown cut 'trim'"),
        (["--kind", "heads", "--by", "angular", "--remove", 1], "unknown order of heads 'angular'"),
        (["--kind", "haeds", "--by", "nll", "--remove", 1], "did you mean heads"),
        (["--kind", "heads", "--by", "nll", "--remove", 16], "16 of 16 heads are to be removed: give a number from 1 to 15"),
        (["--kind", "heads", "--by", "sublayers", "--remove", 1], "unknown order of heads 'sublayers'"),
        (["--params", "--remove", 1], "--params is of the --ratio of an order"),
        (["--ratio", "2", "--params"], "a ratio of 2 is not a share of the parameters"),
    ],
)
def test_bad_input_is_one_line(words: list[object], says: str, prune: Strata, tmp_path: Path) -> None:
    done = prune(*words, "--out", tmp_path / "out")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done
    assert says in done.stderr
    assert not (tmp_path / "out").exists()


def test_weights_that_are_held_in_less_than_the_files_hold_are_not_written(folder: Path) -> None:
    model = load(folder, device="cpu", dtype="bfloat16")
    with pytest.raises(StrataError, match="is loaded in bfloat16, which rounds the float32 of its files: give `dtype` float32"):
        cut(model, Source.of(str(folder), model.spec), Ablation(ffns={1}))
    with pytest.raises(StrataError, match="leaves means behind"):
        cut(model, Source.of(str(folder), model.spec), Ablation(ffns={1}, edit="mean"))


def test_heads_of_gpt_2_are_zero_since_its_width_says_how_wide_they_are(tmp_path: Path) -> None:
    _, reference = pair("gpt2")
    reference.save_pretrained(tmp_path)
    model = load(tmp_path, device="cpu")
    out = Ablation(heads={(i, 0) for i in range(len(model.blocks))})
    assert cut(model, Source.of(str(tmp_path), model.spec), out).zeroed
    with pytest.raises(StrataError, match=r"transformers cannot hold .* with 3 heads in each block"):
        cut(model, Source.of(str(tmp_path), model.spec), out, "delete")
