"""Bad input to `load`: one line that says what was found and how to fix it, never a traceback."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters import StrataError, load
from adapters.catalogue import CONVERTED
from adapters.checkpoints.files import open_store
from adapters.registry import BESIDE
from tests.reference.hf import tiny


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny().save_pretrained(tmp_path)
    return tmp_path


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file({key: t.clone() for key, t in weights.items()}, path, metadata={"format": "pt"})


def to_pickle(folder: Path) -> Path:
    path = folder / "pytorch_model.bin"
    torch.save(load_file(folder / "model.safetensors"), path)
    (folder / "model.safetensors").unlink()
    return path


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


class Code:
    """Unpickling it would run a command."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("code-has-run",)


def truncated_safetensors(folder: Path) -> None:
    truncate(folder / "model.safetensors")


def truncated_header(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 100)


def empty_safetensors(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 0)


def truncated_bin(folder: Path) -> None:
    truncate(to_pickle(folder))


def corrupt_bin(folder: Path) -> None:
    to_pickle(folder).write_bytes(b"<!DOCTYPE html><html>404 not found</html>")


def empty_bin(folder: Path) -> None:
    to_pickle(folder).write_bytes(b"")


def code_in_bin(folder: Path) -> None:
    torch.save({"model.norm.weight": Code()}, to_pickle(folder))


def code_in_old_bin(folder: Path) -> None:
    to_pickle(folder).write_bytes(pickle.dumps({"model.norm.weight": Code()}, protocol=2))


def list_in_bin(folder: Path) -> None:
    torch.save([torch.zeros(3)], to_pickle(folder))


def numbers_in_bin(folder: Path) -> None:
    torch.save({"step": 3}, to_pickle(folder))


def write_index(folder: Path, name: str) -> None:
    weights = dict.fromkeys(load_file(folder / "model.safetensors"), "model-00001-of-00002.safetensors")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights | {"lm_head.weight": name}}))


def missing_shard(folder: Path) -> None:
    write_index(folder, "model-00002-of-00002.safetensors")


def shard_outside(folder: Path) -> None:
    write_index(folder, "../model.safetensors")


def shard_at_root(folder: Path) -> None:
    write_index(folder, "/etc/passwd")


def index_without_map(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text("{}")


def index_of_nonsense(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": ["model.safetensors"]}')


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def config_cut_short(folder: Path) -> None:
    truncate(folder / "config.json")


def config_is_a_list(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def more_blocks_in_weights(folder: Path) -> None:
    edit_config(folder, num_hidden_layers=2)


def fewer_blocks_in_weights(folder: Path) -> None:
    edit_config(folder, num_hidden_layers=4)


def other_width(folder: Path) -> None:
    edit_config(folder, intermediate_size=64)


def other_heads(folder: Path) -> None:
    edit_config(folder, num_key_value_heads=4)


def unexpected_bias(folder: Path) -> None:
    edit_weights(folder, lambda w: w.update({"model.layers.1.self_attn.q_proj.bias": torch.zeros(48)}))


def tied_on_paper_only(folder: Path) -> None:
    edit_weights(folder, lambda w: w.pop("lm_head.weight"))


def not_finite(folder: Path) -> None:
    edit_weights(folder, lambda w: w["model.norm.weight"].fill_(float("nan")))


def impossible_config(folder: Path) -> None:
    edit_config(folder, hidden_size="many")


def missing_number(folder: Path) -> None:
    edit_config(folder, vocab_size=None)


def negative_blocks(folder: Path) -> None:
    edit_config(folder, num_hidden_layers=-1)


def unknown_activation(folder: Path) -> None:
    edit_config(folder, hidden_act="sillu")


def unknown_rope(folder: Path) -> None:
    edit_config(folder, rope_parameters={"rope_type": "lineer", "factor": 2.0, "rope_theta": 1e4})


def rope_without_factor(folder: Path) -> None:
    edit_config(folder, rope_parameters={"rope_type": "linear", "rope_theta": 1e4})


def unknown_type(folder: Path) -> None:
    edit_config(folder, model_type="lama")


def no_type(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "model_type"}))


def layers_of_another_type(folder: Path) -> None:
    edit_config(folder, model_type="qwen3", layer_types=["linear_attention", "full_attention", "full_attention"])


def quantised(folder: Path) -> None:
    edit_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})


def broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')


BAD: dict[Callable[[Path], None], tuple[str, ...]] = {  # what the message must name, the fix last
    truncated_safetensors: ("model.safetensors", "download it again"),
    truncated_header: ("model.safetensors", "download it again"),
    empty_safetensors: ("model.safetensors", "download it again"),
    truncated_bin: ("pytorch_model.bin", "download it again"),
    corrupt_bin: ("pytorch_model.bin", "download it again"),
    empty_bin: ("pytorch_model.bin", "download it again"),
    code_in_bin: ("pytorch_model.bin", "not opened", "convert it to safetensors"),
    code_in_old_bin: ("pytorch_model.bin", "not opened", "convert it to safetensors"),
    list_in_bin: ("pytorch_model.bin", "expected a state dict"),
    numbers_in_bin: ("pytorch_model.bin", "expected a state dict"),
    missing_shard: ("model-00002-of-00002.safetensors", "download it again"),
    shard_outside: ("../model.safetensors", "not a plain file name"),
    shard_at_root: ("/etc/passwd", "not a plain file name"),
    index_without_map: ("model.safetensors.index.json", "download it again"),
    index_of_nonsense: ("model.safetensors.index.json", "download it again"),
    no_weights: ("no weights", "expected *.safetensors, pytorch_model*.bin"),
    no_config: ("config.json is missing", "beside its weights"),
    config_cut_short: ("config.json", "download it again"),
    config_is_a_list: ("config.json", "download it again"),
    more_blocks_in_weights: ("model.layers.2.", "config.json belongs to another model (2 blocks)"),
    fewer_blocks_in_weights: ("lacks the weight model.layers.3.", "config.json is of another model"),
    other_width: ("80 x 48", "64 x 48", "config.json is of another model"),
    other_heads: ("k_proj", "24 x 48", "48 x 48", "config.json is of another model"),
    unexpected_bias: ("model.layers.1.self_attn.q_proj.bias", "not supported"),
    tied_on_paper_only: ("lacks the weight lm_head.weight", "set tie_word_embeddings to true"),
    not_finite: ("non-finite", "corrupt"),
    impossible_config: ("config.json is not valid", "hidden_size"),
    missing_number: ("config.json is not valid", "vocab_size"),
    negative_blocks: ("num_hidden_layers is -1", "above zero"),
    unknown_activation: ("hidden_act", "sillu", "did you mean silu"),
    unknown_rope: ("rope_type", "lineer", "did you mean linear"),
    rope_without_factor: ("config.json", "rope_parameters", "factor"),
    unknown_type: ("model_type", "'lama'", "did you mean llama", "valid: "),
    no_type: ("model_type", "valid: "),
    layers_of_another_type: ("full_attention, linear_attention", "only full and sliding attention"),
    quantised: ("gptq", "use the checkpoint it was made from"),
    broken_tokenizer: ("tokenizer.json", "replace the file"),
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda f: f.__name__)
def test_bad_folder(spoil: Callable[[Path], None], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    spoil(folder)
    with pytest.raises(StrataError) as caught:
        load(folder)
    message = str(caught.value)
    assert "\n" not in message
    for part in BAD[spoil]:
        assert part in message, message
    assert not (folder / "code-has-run").exists()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"dtype": "floaty16"}, ("dtype", "did you mean float16", "valid: ")),
        ({"device": "gpu"}, ("device", "'gpu'", "valid: auto, cpu, cuda")),
        ({"family": "lama"}, ("family", "did you mean llama")),
    ],
)
def test_bad_option(options: dict, parts: tuple[str, ...], folder: Path) -> None:
    with pytest.raises(StrataError) as caught:
        load(folder, **options)
    assert all(part in str(caught.value) for part in parts), caught.value


@pytest.mark.skipif(torch.cuda.is_available(), reason="is for machines without a CUDA card")
def test_absent_card(folder: Path) -> None:
    with pytest.raises(StrataError, match=r"no CUDA device: use `device` cpu"):
        load(folder, device="cuda")


@pytest.mark.parametrize("source", ["smollm", "no/such/folder", "./nothing", "model.gguf"])
def test_unknown_source(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StrataError, match=r"unknown model.*a folder"):
        load(source)


def test_nearest_name_of_the_catalogue() -> None:
    with pytest.raises(StrataError, match="did you mean smollm2"):
        load("smolm2")


def test_hub_id_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(StrataError, match=r"cannot get somebody/something from the hub: it is not in the cache.*; or give a local folder"):
        load("somebody/something")


def test_all_that_a_checkpoint_takes_along_comes_from_the_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    asked: list[str] = []

    def snapshot(hub_id: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.extend(allow_patterns)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert load("somebody/something").spec.name == "something"
    assert all(any(fnmatch(name, pattern) for pattern in asked) for name in BESIDE)
    assert not any(fnmatch("modeling_llama.py", pattern) for pattern in asked)


def test_corrupt_gguf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path / "cache"))
    (tmp_path / "model.gguf").write_bytes(b"GGUF but then nothing that makes sense")
    with pytest.raises(StrataError, match=r"model\.gguf is GGUF of version"):
        load(tmp_path / "model.gguf")
    assert not list((tmp_path / "cache" / CONVERTED).iterdir()), "something half-written was left behind"


def test_other_tensors_beside_the_weights_are_left_alone(folder: Path) -> None:
    save_file({"logits": torch.zeros(3)}, folder / "expected.safetensors")
    assert load(folder).spec.vocab_size == 97


def test_a_file_of_weights_is_a_store(folder: Path) -> None:
    assert open_store(folder / "model.safetensors").shapes == open_store(folder).shapes
