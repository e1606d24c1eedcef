"""Quantised checkpoints that are made: the same bytes twice, nearer on calibration text than rounding, read by transformers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from adapters import Ablation, load
from adapters.checkpoints.export import Source
from adapters.checkpoints.files import open_store
from adapters.checkpoints.stock import READERS, reader_of
from adapters.contract import assert_close
from adapters.errors import StrataError
from analysis.data.batches import Text, batches
from analysis.quantization import gptq
from analysis.quantization.gptq import Recipe, group_of, half_bytes, require, widest
from tests.reference.gptq import save_gptq
from tests.reference.models import save_reader, spec

pytest.importorskip("llmcompressor")
IDS = torch.randint(0, 256, (2, 20), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, prose: Path) -> Recipe:
    folder = tmp_path_factory.mktemp("models") / "dense"
    folder.mkdir()
    save_reader(folder, hidden_size=64, intermediate_size=96, num_hidden_layers=4, tie_word_embeddings=True)
    model = load(folder, device="cpu")
    text = Text(corpus=str(prose), split="calibration", window=32, documents=12)
    return Recipe(model, Source.of(str(folder), model.spec), "gptq", text=tuple(batches(text.windows(model), model)))


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("scheme", ["gptq", "int8"])
def test_two_runs_are_identical(scheme: str, recipe: Recipe, tmp_path: Path) -> None:
    recipe = replace(recipe, scheme=scheme)
    torch.manual_seed(1)
    first = recipe.make(tmp_path / "a")
    state = torch.manual_seed(2).get_state()
    second = recipe.make(tmp_path / "b")
    assert first.name == second.name
    assert weights(first) == weights(second)
    assert torch.equal(torch.get_rng_state(), state), "the caller's random numbers are changed"
    stamp = (first / "model.safetensors").stat().st_mtime_ns
    assert recipe.make(tmp_path / "a") == first
    assert (first / "model.safetensors").stat().st_mtime_ns == stamp, "it was there already"


@pytest.mark.parametrize("scheme", ["gptq", "int8"])
def test_transformers_reads_what_was_made(scheme: str, recipe: Recipe, tmp_path: Path) -> None:
    out = replace(recipe, scheme=scheme).make(tmp_path)
    model = load(out, device="cpu")
    assert (
        model.spec.quantised
        == {"gptq": "4-bit weights, groups of 32", "int8": "8-bit weights, one group a row"}[scheme] + " (compressed-tensors)"
    )
    assert reader_of(model.spec, open_store(out), "safetensors") == "transformers"
    config = json.loads((out / "config.json").read_text())
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"], "as transformers 4 looks for it"
    assert_close(model.run(IDS), READERS["transformers"](out, IDS, "cpu", "float32"))
    assert model.tokenizer is not None
    assert model.tokenizer.encode("abc").ids == recipe.model.tokenizer.encode("abc").ids


def test_heads_of_a_gptq_model_are_taken_out_on_activations(recipe: Recipe, tmp_path: Path) -> None:
    """As zeros in the columns of a float model with the same weights."""
    out = recipe.make(tmp_path)
    model, plain = load(out, device="cpu"), load(out, device="cpu")
    size = model.spec.blocks[1].head_dim
    plain.blocks[1].weights["o"][:, 2 * size : 3 * size] = 0
    assert_close(model.run(IDS, Ablation(heads=frozenset({(1, 2)}))), plain.run(IDS))


def rounded(weight: Tensor, bits: int, group: int) -> Tensor:
    """To nearest, symmetric, with the scale at which the largest of a group is the last code."""
    groups = weight.double().unflatten(1, (-1, group))
    scale = groups.abs().amax(-1, keepdim=True) * 2 / (2**bits - 1)
    return ((groups / scale).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scale).flatten(1)


def test_int8_is_rounding_to_nearest(recipe: Recipe, tmp_path: Path) -> None:
    model = load(replace(recipe, scheme="int8").make(tmp_path), device="cpu")
    for block, dense in zip(model.blocks, recipe.model.blocks, strict=True):
        for role in ("q", "k", "v", "o", "gate", "up", "down"):
            expected = rounded(dense.weights[role], 8, dense.weights[role].shape[1])
            off = (block.weights[role].double() - expected).abs()
            step = expected.abs().amax(1, keepdim=True) / 127
            assert ((off > 0.01 * step).sum(1) <= 1).all(), "the largest of a row lies half way between two codes"
            assert (off <= 1.01 * step).all()
        assert torch.equal(block.weights["mixer_norm"], dense.weights["mixer_norm"])
    assert torch.equal(model.weights["embed"], recipe.model.weights["embed"])


def test_gptq_keeps_outputs_on_calibration_text_better_than_rounding(recipe: Recipe, tmp_path: Path) -> None:
    """Its objective: || x W^T - x Q^T ||, of a matrix whose inputs nothing before it has changed."""
    model, dense = load(recipe.make(tmp_path), device="cpu"), recipe.model
    seen = []
    for batch in recipe.text:
        x, _ = dense.begin(batch.ids)
        h = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * dense.blocks[0].weights["mixer_norm"]
        real = torch.arange(batch.ids.shape[1]) < batch.lengths[:, None]
        seen.append(h[real].double())
    inputs, better = torch.cat(seen), 0
    for role in "qkv":
        weight = dense.blocks[0].weights[role].double()
        errors = [(inputs @ (weight - q.double()).T).norm() for q in (model.blocks[0].weights[role], rounded(weight, 4, 32))]
        better += bool(errors[0] < 0.95 * errors[1])
    assert better == 3


@pytest.mark.parametrize("scheme", ["gptq", "int8"])
def test_blocks_go_before_and_after(scheme: str, recipe: Recipe, tmp_path: Path) -> None:
    """Quantised first, the file loses blocks and nothing else changes; of weights that are rounded alone the order is none."""
    removed = (1, 2)
    recipe = replace(recipe, scheme=scheme)
    whole = recipe.make(tmp_path / "whole")
    model = load(whole, device="cpu")
    after = tmp_path / "after"
    after.mkdir()
    source = Source.of(str(whole), model.spec)
    source.write(removed, after, "safetensors")
    gone = Ablation(blocks=frozenset(removed))
    assert_close(READERS["transformers"](after, IDS, "cpu", "float32"), model.run(IDS, gone))
    before = replace(recipe, removed=removed).make(tmp_path / "before")
    a, b = (load_file(folder / "model.safetensors") for folder in (after, before))
    assert a.keys() == b.keys()
    same = {key for key in a if torch.equal(a[key], b[key])}
    if scheme == "int8":
        assert same == a.keys()
    else:
        assert any(key.startswith("model.layers.1.") for key in a.keys() - same)
        assert {key for key in a if key.startswith("model.layers.0.")} <= same, "block 0 sees the same text in either order"
    assert source.without(removed).nbytes == open_store(before).nbytes < open_store(whole).nbytes < recipe.source.store.nbytes


def test_a_checkpoint_of_another_recipe_is_not_taken(recipe: Recipe, tmp_path: Path) -> None:
    out = recipe.folder(tmp_path)
    out.mkdir()
    (out / "config.json").write_text("{}")
    for kept, says in (
        (json.dumps(recipe.identity | {"damping": 0.5}), "holds a checkpoint of another recipe: remove it"),
        ("{", "strata.json cannot be used: .*; remove"),
        (None, "strata.json cannot be used: it is not a file; remove"),
    ):
        (out / "strata.json").write_text(kept) if kept else (out / "strata.json").unlink()
        with pytest.raises(StrataError, match=says):
            recipe.make(tmp_path)


def test_size_with_halved_floats(recipe: Recipe, tmp_path: Path) -> None:
    store = open_store(recipe.make(tmp_path))
    assert half_bytes(recipe.source.store) * 2 == recipe.source.store.nbytes == recipe.model.spec.n_params * 4
    matrices = sum(w.numel() for block in recipe.model.blocks for w in block.weights.values() if w.dim() == 2)
    others = recipe.model.spec.n_params - matrices
    shapes = 7 * len(recipe.model.blocks) * 2 * 8  # weight_shape: two int64 each
    assert half_bytes(store) == matrices // 2 + matrices // 32 * 2 + others * 2 + shapes


def test_calibration_text_that_is_too_short(recipe: Recipe, tmp_path: Path) -> None:
    short = replace(recipe, text=(recipe.text[0]._replace(ids=recipe.text[0].ids[:2], lengths=recipe.text[0].lengths[:2]),))
    tokens = int(recipe.text[0].lengths[:2].sum())
    assert widest(recipe.model) == 96 > tokens
    with pytest.raises(StrataError, match=rf"{tokens} tokens is too short for dense, whose widest rows have 96 weights: .*singular; give"):
        short.make(tmp_path)
    assert not list(tmp_path.iterdir())


def test_second_moments_that_cannot_be_inverted_are_an_error(recipe: Recipe, tmp_path: Path) -> None:
    """Where llmcompressor would round to nearest with a warning. A negative damping makes any matrix such; the one named mends it."""
    says = r"second moments of .*q_proj.*, damped by -1 of .*: give more calibration text, .*Recipe\(damping=0.01\), fixes it too"
    with pytest.raises(StrataError, match=says):
        replace(recipe, damping=-1.0).make(tmp_path)
    assert not list(tmp_path.iterdir())
    assert (replace(recipe, damping=0.01).make(tmp_path) / "model.safetensors").is_file()


def test_what_the_result_depends_on(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmcompressor.utils.dev import get_main_device

    made = recipe.identity
    assert (made["damping"], made["device"]) == (0.01, get_main_device().type), "where llmcompressor computes, whatever is asked of us"
    assert replace(recipe, damping=0.1).folder(Path()) != recipe.folder(Path())
    monkeypatch.setattr(gptq, "device", lambda: "other")
    assert recipe.identity != made


def test_what_cannot_be_quantised(recipe: Recipe, tmp_path: Path) -> None:
    save_gptq(tmp_path)
    with pytest.raises(StrataError, match=r"quantisation computes with float weights, and .* has 4-bit weights"):
        require(load(tmp_path, device="cpu").spec)
    with pytest.raises(StrataError, match=r"rwkv.* cannot be quantised.* that is not run here$"):
        require(replace(spec(2), family="rwkv"))
    with pytest.raises(StrataError, match=r"baichuan.* cannot be quantised.*; a GPTQ checkpoint of it can be read$"):
        require(replace(spec(2), family="baichuan"))
    block = recipe.model.blocks[0]
    odd = replace(block, weights=block.weights | {"down": torch.zeros(64, 90)})
    with pytest.raises(StrataError, match="rows of dense have 64, 90, 96 weights: groups of 128 or 32 do not fit; use int8"):
        group_of(recipe.model.with_blocks([odd, *recipe.model.blocks[1:]]))
