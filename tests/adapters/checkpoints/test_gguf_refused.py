"""What a GGUF file says or lacks, and this project does not compute, is refused by name in one line."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from adapters import load
from adapters.errors import StrataError
from tests.adapters.checkpoints.gguf_files import TOKENS, header, save, tensors, tiny, write

MODEL = tiny()
HEADER, TENSORS = header(MODEL), tensors(MODEL)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def refused(file: Path, message: str) -> None:
    with pytest.raises(StrataError, match=message) as caught:
        load(file)
    assert "\n" not in str(caught.value)
    assert str(file.parent) in str(caught.value)
    assert not list(file.parent.glob("cache/converted/*")), "something half-written was left behind"


@pytest.mark.parametrize("name", [name for name in TENSORS if name != "output.weight"])  # without it the embedding is the head
def test_a_tensor_that_is_not_there(name: str, tmp_path: Path) -> None:
    rest = {key: tensor for key, tensor in TENSORS.items() if key != name}
    refused(write(tmp_path / "tiny.gguf", HEADER, rest), f"lacks the tensor {name}")


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_of_another_name(name: str, tmp_path: Path) -> None:
    renamed = {("x" + key[1:] if key == name else key): tensor for key, tensor in TENSORS.items()}
    refused(write(tmp_path / "tiny.gguf", HEADER, renamed), f"lacks the tensor {name}|holds the tensor 'xutput.weight'")


@pytest.mark.parametrize("name", [name for name in TENSORS if "blk.1" not in name])
def test_a_tensor_of_another_shape(name: str, tmp_path: Path) -> None:
    longer = np.concatenate([TENSORS[name], TENSORS[name][:2]])
    shown = "output.weight" if name == "token_embd.weight" else name  # rows of the embedding are the size of the vocabulary
    refused(write(tmp_path / "tiny.gguf", HEADER, TENSORS | {name: longer}), f"its tensor {re.escape(shown)} is ")


@pytest.mark.parametrize("blocks", [1, 3, 10**9])
def test_a_wrong_count_of_blocks(blocks: int, tmp_path: Path) -> None:
    refused(save(tmp_path / "tiny.gguf", MODEL, "llama", {"block_count": blocks}), f"its header says {blocks} blocks, its tensors are of 2")


@pytest.mark.parametrize(
    "name",
    ["blk.0.attn_q.bias", "blk.0.ffn_gate_inp.weight", "blk.1.attn_q.scale", "rope_factors_long.weight", "cls.weight", "blk.0.x.y.z", "ü"],
)
def test_a_tensor_too_many(name: str, tmp_path: Path) -> None:
    extra = {name: np.ones(32, np.float32)}
    refused(
        write(tmp_path / "tiny.gguf", HEADER, TENSORS | extra), "lacks the tensor" if name.endswith("bias") else f"holds the tensor '{name}"
    )


def test_factors_of_frequencies_in_an_architecture_without_them(tmp_path: Path) -> None:
    model = tiny("qwen2")
    extra = {"rope_freqs.weight": np.ones(4, np.float32)}
    refused(write(tmp_path / "tiny.gguf", header(model, "qwen2"), tensors(model, "qwen2") | extra, "qwen2"), "holds the tensor 'rope_freqs")


@pytest.mark.parametrize("factors", [np.ones(3), np.zeros(4), np.full(4, np.nan), -np.ones(4)], ids=["few", "zero", "nan", "negative"])
def test_damaged_factors_of_frequencies(factors: np.ndarray, tmp_path: Path) -> None:
    refused(
        write(tmp_path / "tiny.gguf", HEADER, TENSORS | {"rope_freqs.weight": factors.astype(np.float32)}),
        "rope_freqs.weight should hold 4",
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expert_count": 8}, "expert_count"),
        ({"expert_used_count": 2}, "expert_used_count"),
        ({"attention.causal": False}, "attention.causal"),
        ({"logit_scale": 0.5}, "logit_scale"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ({"embedding_scale": 12.0}, "embedding_scale"),
        ({"residual_scale": 0.2}, "residual_scale"),
        ({"attention.scale": 0.1}, "attention.scale is 0.1, only 0.35"),
        ({"attention.clamp_kqv": 8.0}, "clamp_kqv"),
        ({"attention.max_alibi_bias": 8.0}, "max_alibi_bias"),
        ({"attention.sliding_window_pattern": [True, False]}, "sliding_window_pattern"),
        ({"attention.layer_norm_epsilon": 1e-5}, "layer_norm_epsilon"),
        ({"rope.scaling.type": "longrope"}, "rope.scaling.type.*valid: linear, none, yarn"),
        ({"rope.scaling.type": "yarm", "rope.scaling.factor": 4.0}, "did you mean yarn"),
        ({"rope.scaling.attn_factor": 1.2}, "attn_factor"),
        ({"rope.scaling.yarn_log_multiplier": 0.1}, "yarn_log_multiplier"),
        ({"rope.scaling.factor": -2.0}, "factor is -2"),
        ({"rope.scaling.factor": float("nan")}, "factor is nan"),
        ({"rope.dimension_count": 4}, "rope.dimension_count is 4, only 8"),
        ({"rope.dimension_sections": [2, 2, 4, 0]}, "dimension_sections"),
        ({"attention.value_length": 16}, "value_length is 16, only 8"),
        ({"attention.key_length": 7, "attention.value_length": 7, "rope.dimension_count": 7}, "do not fit"),
        ({"attention.head_count": [4, 2]}, "head_count differs between blocks"),
        ({"attention.head_count": 0}, "head_count is 0, expected 1 or more"),
        ({"attention.head_count_kv": 3}, "do not fit"),
        ({"attention.head_count": "4"}, "head_count is '4', expected a whole number"),
        ({"attention.head_count": 8}, "attn_q.weight is .32, 32., its header says .64, 32."),
        ({"feed_forward_length": 47}, "ffn_gate.weight"),
        ({"embedding_length": 2**32 - 1}, "token_embd.weight|do not fit"),
        ({"embedding_length": None}, "has no llama.embedding_length"),
        ({"context_length": None}, "has no llama.context_length"),
        ({"attention.layer_norm_rms_epsilon": None}, "has no llama.attention.layer_norm_rms_epsilon"),
        ({"rope.freq_base": 0.0}, "below zero"),
        ({"vocab_size": 300}, "vocab_size is 300, only 262"),
        ({"general.type": "adapter"}, "general.type"),
        ({"general.quantization_version": 1}, "general.quantization_version"),
    ],
)
def test_a_key_that_changes_the_model(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    refused(save(tmp_path / "tiny.gguf", MODEL, "llama", changes), message)


def test_a_zero_base_is_refused_like_one_below_zero(tmp_path: Path) -> None:
    refused(save(tmp_path / "tiny.gguf", MODEL, "llama", {"rope.freq_base": -1.0}), "below zero")


def test_keys_of_another_name(tmp_path: Path) -> None:
    renamed = {key.replace("rope.freq_base", "rope.freq_bace"): value for key, value in HEADER.items()}
    refused(write(tmp_path / "a.gguf", renamed, TENSORS), "llama.rope.freq_bace")
    other = {key.replace("llama.rope", "lllma.rope"): value for key, value in HEADER.items()}
    refused(write(tmp_path / "b.gguf", other, TENSORS), "lllma.rope")


def test_other_architectures(tmp_path: Path) -> None:
    for arch in ("mixtral", "qwen2moe", "gemma2", "baichuan", "rwkv7"):
        refused(
            write(tmp_path / f"{arch}.gguf", header(MODEL, arch), TENSORS, arch),
            f"general.architecture.*'{arch}'.*valid: llama, qwen2, qwen3",
        )


def test_qwen2_without_biases(tmp_path: Path) -> None:
    model = tiny("qwen2")
    plain = {name: t for name, t in tensors(model, "qwen2").items() if not name.endswith("bias")}
    refused(write(tmp_path / "tiny.gguf", header(model, "qwen2"), plain, "qwen2"), "lacks the tensor blk.0.attn_q.bias .6 in all")


def test_a_window_and_biases_are_no_model_that_there_is(tmp_path: Path) -> None:
    refused(save(tmp_path / "tiny.gguf", tiny(attention_bias=True), "llama", {"attention.sliding_window": 8}), "attn_q.bias")


def test_scaled_twice(tmp_path: Path) -> None:
    twice = HEADER | {"llama.rope.scaling.factor": 2.0}
    refused(write(tmp_path / "tiny.gguf", twice, TENSORS | {"rope_freqs.weight": np.float32([1, 1, 2, 2])}), "scales positions twice")


def test_a_type_that_is_not_read(tmp_path: Path) -> None:
    refused(write(tmp_path / "tiny.gguf", HEADER, TENSORS | {"output_norm.weight": np.ones(32)}), "output_norm.weight is of the type F64")


def split(folder: Path) -> list[Path]:
    save(folder / "tiny.gguf", MODEL, split_max_tensors=12)
    return sorted(folder.glob("tiny-*.gguf"))


def test_a_part_alone(tmp_path: Path) -> None:
    first, second = split(tmp_path)
    content = second.read_bytes()
    second.unlink()
    refused(first, r"lacks 1 of the 2 parts of the model \(tiny-00002-of-00002.gguf\)")
    second.write_bytes(first.read_bytes())
    refused(first, "is not part 2 of the model")
    second.write_bytes(content)
    assert load(first, device="cpu").spec.n_params
    alone = second.rename(tmp_path / "part.gguf")
    with pytest.raises(StrataError, match=r"part\.gguf is one of the 2 parts"):
        load(alone)


def test_big_endian(tmp_path: Path) -> None:
    refused(save(tmp_path / "tiny.gguf", MODEL, endianess=gguf.GGUFEndian.BIG), "big-endian")


Damage = Callable[[bytes], bytes]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "too short"),
        (lambda data: data[:20], "too short"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "pointer of git LFS"),
        (lambda data: b"<!DOCTYPE html>" + data, "is not a GGUF file"),
        (lambda data: data[:4] + struct.pack("<I", 1) + data[8:], "version 1"),
        (lambda data: data[:8] + struct.pack("<Q", 2**63) + data[16:], "continues past its end|axes|unknown type"),
        (lambda data: data[:16] + struct.pack("<Q", 2**63) + data[24:], "truncated or damaged"),
        (lambda data: data[:24] + struct.pack("<Q", 2**64 - 1) + data[32:], "continues past its end"),
        (
            lambda data: data.replace(b"tokenizer.ggml.tokens\x09\0\0\0", b"tokenizer.ggml.tokens\x0b\0\0\0"),
            "twice|damaged|expected a list|no UTF-8",
        ),
        (lambda data: data.replace(b"output_norm.weight", b"output_norm.weigh\xff"), "which is not UTF-8"),
        (lambda data: data[:-1], "its header says"),
        (lambda data: data + bytes(1000), "its header says"),
        (lambda data: data.replace(b"blk.1.ffn_up", b"blk.0.ffn_up"), "is there twice"),
    ],
)
def test_damaged(damage: Damage, message: str, tmp_path: Path) -> None:
    file = save(tmp_path / "tiny.gguf", MODEL)
    file.write_bytes(damage(file.read_bytes()))
    refused(file, message)


def test_truncated_anywhere(tmp_path: Path) -> None:
    file = save(tmp_path / "tiny.gguf", MODEL)
    whole = file.read_bytes()
    for end in [*range(0, 200, 7), *range(200, len(whole), 997)]:
        file.write_bytes(whole[:end])
        refused(file, "tiny.gguf")


def test_one_byte_changed_anywhere_in_the_header(tmp_path: Path) -> None:
    """Refused, or a model whose numbers are those that the changed header says, as another reader of GGUF sees it."""
    file, rng = tmp_path / "tiny.gguf", np.random.default_rng(0)
    save(file, MODEL)
    whole = file.read_bytes()
    end = gguf.GGUFReader(file).data_offset
    accepted = 0
    for at in rng.integers(0, end, 150):
        file.write_bytes(whole[:at] + bytes([int(whole[at]) ^ int(rng.integers(1, 256))]) + whole[at + 1 :])
        try:
            model = load(file, device="cpu")
        except StrataError:
            continue
        accepted += 1
        fields = {key: field.contents() for key, field in gguf.GGUFReader(file).fields.items()}
        assert model.config.rope_parameters["rope_theta"] == pytest.approx(fields["llama.rope.freq_base"])  # type: ignore[attr-defined]
        assert model.config.rms_norm_eps == pytest.approx(fields["llama.attention.layer_norm_rms_epsilon"])  # type: ignore[attr-defined]
        assert model.spec.max_len == fields["llama.context_length"]
        assert len(fields["tokenizer.ggml.tokens"]) == len(TOKENS) == model.spec.vocab_size
        if fields["llama.rope.freq_base"] == 10000 and fields["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6):
            ids = torch.arange(40)[None]
            assert torch.allclose(model.run(ids), MODEL(ids).logits, atol=1e-4, rtol=1e-4)
    assert 10 < accepted < 140
