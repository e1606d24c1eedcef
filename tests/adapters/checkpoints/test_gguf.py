"""Models of GGUF files give the logits of the models that they were written from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from adapters import load
from adapters.catalogue import converted_gguf
from adapters.checkpoints.gguf.config import by_factors
from tests.adapters.checkpoints.gguf_files import TOKENS, header, save, tensors, tiny, write
from tests.shared_data import shared

Kind = gguf.GGMLQuantizationType
IDS = torch.randint(len(TOKENS), (2, 40), generator=torch.Generator().manual_seed(1))
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 100.0}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {  # architecture, what the model is, what the header says of it
    "llama": ("llama", {}, {}),
    "tied": ("llama", {"tie_word_embeddings": True}, {}),
    "no key_length": ("llama", {}, {"attention.key_length": None, "attention.value_length": None, "rope.dimension_count": None}),
    "wide heads": ("llama", {"head_dim": 12}, {}),
    "biases": ("llama", {"attention_bias": True, "mlp_bias": True}, {}),
    "all heads": ("llama", {"num_key_value_heads": 4}, {"attention.head_count_kv": None}),
    "base of old files": ("llama", {"rope_theta": 10000.0}, {"rope.freq_base": None}),
    "lists of equal numbers": ("llama", {}, {"attention.head_count": [4, 4], "feed_forward_length": [48, 48]}),
    "neutral keys": (
        "llama",
        {},
        {"expert_count": 0, "attention.scale": 8**-0.5, "rope.scaling.finetuned": True, "attention.causal": True},
    ),
    "window": ("llama", {}, {"attention.sliding_window": 64}),
    "qwen2": ("qwen2", {}, {}),
    "qwen2 window": ("qwen2", {}, {"attention.sliding_window": 64}),
    "qwen3": ("qwen3", {"head_dim": 16}, {}),
    "linear": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 100.0}},
        {"rope.scaling.type": "linear", "rope.scaling.factor": 3.0},
    ),
    "linear by default": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 100.0}},
        {"rope.scaling.factor": 3.0},
    ),
    "old linear": ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 100.0}}, {"rope.scale_linear": 3.0}),
    "no scaling": ("llama", {}, {"rope.scaling.type": "none", "rope.scaling.factor": 3.0}),
    "yarn": (
        "qwen2",
        {"rope_parameters": YARN},
        {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 16},
    ),
    "yarn betas": (
        "llama",
        {"rope_parameters": YARN | {"beta_fast": 16.0, "beta_slow": 2.0}},
        {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 16,
            "rope.scaling.yarn_beta_fast": 16.0,
            "rope.scaling.yarn_beta_slow": 2.0,
        },
    ),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def error(file: Path, reference: PreTrainedModel) -> float:
    """Largest difference of the logits over the reference's standard deviation."""
    with torch.no_grad():
        theirs = reference(IDS).logits
    ours = load(file, device="cpu", dtype="float32").run(IDS)
    return float((ours - theirs).abs().max() / theirs.std())


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_the_model(name: str, tmp_path: Path) -> None:
    arch, config, changes = CASES[name]
    model = tiny(arch, **({"rope_theta": 100.0} | config if "rope_parameters" not in config else config))
    file = save(tmp_path / "tiny.gguf", model, arch, changes)
    assert error(file, model) < 2e-5
    stock = AutoModelForCausalLM.from_pretrained(converted_gguf(file))  # the folder means the same to others
    with torch.no_grad():
        assert (stock(IDS).logits - model(IDS).logits).abs().max() / model(IDS).logits.std() < 2e-5


@pytest.mark.parametrize("kind", [Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_1], ids=lambda kind: kind.name)
def test_quantised_tensors_are_what_gguf_makes_of_them(kind: Kind, tmp_path: Path) -> None:
    model = tiny(hidden_size=64, intermediate_size=96, head_dim=16)
    expected = tensors(model)
    folder = converted_gguf(save(tmp_path / "tiny.gguf", model, kind=kind))
    found = load_file(folder / "model.safetensors")
    assert len(found) == len(expected)
    for ours, theirs in (("model.embed_tokens.weight", "token_embd.weight"), ("model.layers.1.mlp.up_proj.weight", "blk.1.ffn_up.weight")):
        read = gguf.dequantize(gguf.quantize(expected[theirs], kind), kind)
        assert np.array_equal(found[ours].numpy(), read)
        assert 0 < np.abs(read - expected[theirs]).max() < 0.2


def test_every_number_of_the_folder_is_from_the_file(tmp_path: Path) -> None:
    model = tiny()
    found = load_file(converted_gguf(save(tmp_path / "tiny.gguf", model)) / "model.safetensors")
    assert found.keys() == model.state_dict().keys()
    for key, weight in model.state_dict().items():
        assert torch.equal(found[key], weight), key


def test_other_alignment(tmp_path: Path) -> None:
    model = tiny()
    file = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_custom_alignment(256)
    for key, value in header(model).items():
        getattr(writer, {int: "add_uint32", float: "add_float32", str: "add_string", list: "add_array"}[type(value)])(key, value)
    for name, array in tensors(model).items():
        writer.add_tensor(name, array)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    assert error(file, model) < 2e-5


def llama3_factors(frequencies: np.ndarray, factor: float, low: float, high: float, length: int) -> list[float]:
    """As llama.cpp's converter computes the tensor of Llama 3.1."""
    found = []
    for frequency in frequencies:
        wave = 2 * np.pi / frequency
        smooth = (length / wave - low) / (high - low)
        found.append(1.0 if wave < length / high else factor if wave > length / low else 1 / ((1 - smooth) / factor + smooth))
    return found


@pytest.mark.parametrize("factor", [8.0, 32.0], ids=["Llama 3.1", "Llama 3.2"])
def test_frequencies_of_llama_3(factor: float, tmp_path: Path) -> None:
    scaling = {"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 500000.0}
    model = tiny(head_dim=64, rope_parameters=scaling | {"original_max_position_embeddings": 8192})
    factors = np.float32(llama3_factors(500000.0 ** (-np.arange(0, 64, 2) / 64), factor, 1, 4, 8192))
    assert len(set(factors[(factors > 1) & (factors < factor)])) > 1, "some lie between"
    file = write(tmp_path / "tiny.gguf", header(model), tensors(model) | {"rope_freqs.weight": factors})
    config = json.loads((converted_gguf(file) / "config.json").read_text())
    assert config["rope_scaling"] == {key: value for key, value in model.config.rope_parameters.items() if key != "rope_theta"}
    assert error(file, model) < 2e-5


def test_other_factors_of_frequencies(tmp_path: Path) -> None:
    model = tiny(rope_theta=100.0)
    factors = np.float32([1.0, 1.5, 2.0, 7.0])
    file = write(tmp_path / "tiny.gguf", header(model), tensors(model) | {"rope_freqs.weight": factors})
    assert error(file, model) > 1e-2
    model.model.rotary_emb.inv_freq /= torch.from_numpy(factors)
    assert error(file, model) < 2e-5


@pytest.mark.parametrize(
    ("factors", "scaling"), [([1.0] * 4, None), ([3.0] * 4, {"rope_type": "linear", "factor": 3.0})], ids=["none", "linear"]
)
def test_factors_that_are_all_alike(factors: list[float], scaling: dict[str, Any] | None) -> None:
    assert by_factors(np.float32(factors), {"rope_theta": 100.0, "head_dim": 8}) == scaling


def test_windows_are_those_of_all_blocks(tmp_path: Path) -> None:
    for arch in ("llama", "qwen2", "qwen3"):
        file = save(tmp_path / f"{arch}.gguf", tiny(arch), arch, {"attention.sliding_window": 24})
        assert {block.attention.window for block in load(file, device="cpu").blocks} == {24}


def test_parts_of_a_split_file_are_joined(tmp_path: Path) -> None:
    model = tiny()
    save(tmp_path / "tiny.gguf", model, split_max_tensors=8)
    files = sorted(tmp_path.glob("tiny-*.gguf"))
    assert [file.name for file in files] == [f"tiny-{i:05}-of-00003.gguf" for i in (1, 2, 3)]
    for file in files:
        assert error(file, model) < 2e-5
        assert load(file, device="cpu").spec.name == "tiny"
    assert len({converted_gguf(file) for file in files}) == 1


def test_equals_the_reading_of_transformers(tmp_path: Path) -> None:
    file = shared("models/stories260K/stories260K.gguf")
    theirs = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, pad_token_id=None).state_dict()
    found = load_file(converted_gguf(file) / "model.safetensors")
    assert found.keys() == theirs.keys()
    assert all(torch.equal(found[key], theirs[key]) for key in found)
