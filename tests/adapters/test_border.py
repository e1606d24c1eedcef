"""What others wrote, at the border of `load`: read as transformers reads it, or refused in one line that says the cause."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from adapters import StrataError, load
from adapters.contract import assert_close
from adapters.errors import foreign
from tests.reference import baichuan
from tests.reference.gptq import save_gptq
from tests.reference.hf import tiny
from tests.reference.rwkv_checkpoints import random_checkpoint

IDS = torch.randint(0, 97, (2, 20), generator=torch.Generator().manual_seed(0))
Weights = dict[Any, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny().save_pretrained(tmp_path)
    return tmp_path


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewrite(folder: Path, change: Callable[[Weights], Weights]) -> None:
    path = folder / "model.safetensors"
    save_file({key: t.clone() for key, t in change(load_file(path)).items()}, path, metadata={"format": "pt"})


def refused(source: Path, *parts: str, **options: Any) -> None:
    with pytest.raises(StrataError) as caught:
        load(source, device="cpu", **options)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 1000
    for part in parts:
        assert part in message, message


def test_an_adapter_beside_its_base_is_refused_and_the_base_alone_is_read(folder: Path) -> None:
    expected = load(folder, device="cpu").run(IDS)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "some/base"}))
    save_file({"base_model.model.x.lora_A.weight": torch.zeros(2, 3)}, folder / "adapter_model.safetensors")
    refused(folder, "PEFT adapter beside its weights", "merge_and_unload", "move adapter_config.json away")
    refused(folder / "adapter_model.safetensors", "it is a LoRA adapter", "merge it into its base")
    (folder / "adapter_config.json").unlink()
    assert torch.equal(load(folder, device="cpu").run(IDS), expected)


def test_a_folder_that_is_an_adapter_names_its_base(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "some/\nbase"}))
    save_file({"base_model.model.x.lora_A.weight": torch.zeros(2, 3)}, tmp_path / "adapter_model.safetensors")
    refused(tmp_path, r"is a PEFT adapter of 'some/\nbase', not a model", "merge it")


def test_shards_without_their_index_are_one_model_when_no_tensor_is_there_twice(tmp_path: Path) -> None:
    reference = tiny()
    reference.save_pretrained(tmp_path, max_shard_size="40KB")
    (tmp_path / "model.safetensors.index.json").unlink()
    assert_close(load(tmp_path, device="cpu").run(IDS), reference(IDS).logits)
    first = sorted(tmp_path.glob("*.safetensors"))[0]
    shutil.copy(first, tmp_path / "model-of-another.safetensors")
    refused(tmp_path, f"is in model-of-another.safetensors and in a file before it ({first.name}", "nothing says which counts")


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_saved_without_its_head_is_read_as_transformers_reads_it(tied: bool, tmp_path: Path) -> None:
    tiny(tie_word_embeddings=tied).save_pretrained(tmp_path)
    rewrite(tmp_path, lambda w: {key.removeprefix("model."): t for key, t in w.items()})
    reference = AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        assert_close(load(tmp_path, device="cpu").run(IDS), reference(IDS).logits)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int8, torch.uint8, torch.bool, torch.complex64])
def test_weights_that_are_no_floats_are_named(dtype: torch.dtype, folder: Path) -> None:
    key = "model.layers.1.mlp.up_proj.weight"
    rewrite(folder, lambda w: w | {key: w[key].to(dtype)})
    refused(folder, f"{key} holds {str(dtype).removeprefix('torch.')} where floats are expected")


def prefixed(prefix: str) -> Callable[[Weights], Weights]:
    return lambda w: {prefix + key: t for key, t in w.items()}


KEY = "model.norm.weight"
WEIGHTS: dict[str, tuple[Callable[[Weights], Weights], str]] = {  # what is done to a state dict -> the cause
    "module.": (prefixed("module."), "its keys begin with module."),
    "_orig_mod.": (prefixed("_orig_mod."), "its keys begin with _orig_mod."),
    "fsdp": (prefixed("_fsdp_wrapped_module."), "its keys hold _fsdp_wrapped_module."),
    "lora": (lambda w: {f"{key}.lora_A.weight": t for key, t in w.items()}, "it is a LoRA adapter"),
    "base and lora": (lambda w: w | {f"{KEY}.lora_A.weight": w[KEY]}, "it is a LoRA adapter"),
    "zero-3": (
        lambda w: {key: t.flatten()[:0] for key, t in w.items()},
        "model.embed_tokens.weight is empty (0): it was saved under DeepSpeed",
    ),
    "no head": (
        lambda w: {key: t for key, t in w.items() if "lm_head" not in key},
        "lacks the weight lm_head.weight, the head: set tie_word",
    ),
    "training": (lambda w: {"model": w, "step": 3}, "is a checkpoint of a training run: save what it holds under 'model'"),
    "numbers as keys": (lambda w: dict(enumerate(w.values())), "not a table of tensors (0 is Tensor)"),
    "sparse": (lambda w: w | {KEY: w[KEY].to_sparse()}, "model.norm.weight is not a plain tensor (torch.sparse_coo"),
    "meta": (lambda w: w | {KEY: w[KEY].to("meta")}, "model.norm.weight is not a plain tensor (torch.strided, meta"),
    "a bomb": (lambda w: w | {KEY: torch.zeros(1).expand(10**12)}, "model.norm.weight has fewer numbers than its shape says"),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_the_cause_of_weights_that_do_not_fit(case: str, folder: Path) -> None:
    change, cause = WEIGHTS[case]
    path = folder / "model.safetensors"
    torch.save(change(load_file(path)), folder / "pytorch_model.bin")
    path.unlink()
    refused(folder, cause)


def test_parameters_in_a_pickle_are_weights(folder: Path) -> None:
    expected = load(folder, device="cpu").run(IDS)
    path = folder / "model.safetensors"
    torch.save({key: torch.nn.Parameter(t) for key, t in load_file(path).items()}, folder / "pytorch_model.bin")
    path.unlink()
    assert torch.equal(load(folder, device="cpu").run(IDS), expected)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize(
    ("content", "cause"), [(POINTER, "is a pointer of Git LFS"), ("<html>", "is a web page"), ("", "is empty"), ("GGUF", "is a GGUF file")]
)
def test_files_that_are_not_what_their_name_says(name: str, content: str, cause: str, folder: Path) -> None:
    (folder / name).write_text(content)
    refused(folder, name, cause)


@pytest.mark.parametrize("name", ["pointer.bin", "pointer.pth"])
def test_a_pointer_of_git_lfs_is_no_pickle(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(POINTER)
    refused(tmp_path / name, "is a pointer of Git LFS", "git lfs pull")


NATIVE: dict[str, tuple[Callable[[Weights], Weights], str]] = {  # of RWKV without a config.json
    "10^9 blocks": (lambda w: w | {"blocks.999999999.att.output.weight": torch.zeros(32, 32)}, "lacks the weight blocks.2."),
    "a long index": (lambda w: w | {f"blocks.{'9' * 5000}.att.output.weight": torch.zeros(32, 32)}, "lacks the weight blocks.2."),
    "a gap": (lambda w: {key.replace("blocks.1.", "blocks.3."): t for key, t in w.items()}, "lacks the weight blocks.1."),
    "a state": (lambda w: {"blocks.0.att.time_state": torch.zeros(2, 16, 16)}, "it holds a tuned initial state of RWKV"),
    "lora": (lambda w: {"blocks.0.att.key.lora_A": torch.zeros(2, 16)}, "it is a LoRA adapter"),
    "empty": (lambda w: {key: t[..., :0] for key, t in w.items()}, "lacks the weight emb.weight, or its shape is not RWKV-7's"),
    "a bomb": (lambda w: {key: torch.zeros(1).expand(10**6, 10**6) for key in w}, "has fewer numbers than its shape says"),
}


@pytest.mark.parametrize("case", NATIVE)
def test_the_cause_of_rwkv_weights_that_do_not_fit(case: str, tmp_path: Path) -> None:
    torch.save(NATIVE[case][0](random_checkpoint("7")), tmp_path / "model.pth")
    refused(tmp_path / "model.pth", NATIVE[case][1])


NAN, INF = float("nan"), float("inf")
ROPE = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
VALUES: list[tuple[dict[str, Any], str]] = [  # changes of a Llama's config.json -> what is refused
    ({"num_hidden_layers": 10**12}, "num_hidden_layers 1000000000000, its weights are 30 tensors"),
    ({"model_type": "qwen2", "num_hidden_layers": 10**12}, "num_hidden_layers 1000000000000"),
    ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
    ({"num_hidden_layers": True}, "num_hidden_layers"),
    ({"num_attention_heads": -4}, "num_attention_heads is -4"),
    ({"num_attention_heads": 0}, "config.json is not valid"),
    ({"num_key_value_heads": 3}, "4 heads in 3 groups"),
    ({"head_dim": 0}, "head_dim is 0"),
    ({"vocab_size": 10**12}, "the configuration says 1000000000000 x 48"),
    ({"max_position_embeddings": 0}, "max_position_embeddings is 0"),
    ({"rms_norm_eps": NAN}, "rms_norm_eps is nan"),
    ({"rms_norm_eps": -1e-6}, "rms_norm_eps is -1e-06"),
    ({"rms_norm_eps": 1e39}, "rms_norm_eps is 1e+39, expected numbers above zero that 32 bits hold"),
    ({"rope_parameters": {"rope_type": "default", "rope_theta": 0.0}}, "rope_parameters.rope_theta is 0.0"),
    ({"rope_parameters": None, "rope_theta": -1.0}, "rope_parameters.rope_theta is -1.0"),
    ({"rope_parameters": {"rope_type": "default", "rope_theta": INF}}, "rope_parameters.rope_theta is inf"),
    ({"rope_parameters": {"rope_type": "default", "rope_theta": "big"}}, "rope_parameters that are not complete"),
    ({"rope_parameters": ROPE | {"factor": 0.0}}, "rope_parameters.factor is 0.0"),
    ({"rope_parameters": ROPE | {"partial_rotary_factor": 0.5}}, "rope_parameters.partial_rotary_factor 0.5, which is not supported"),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5, which is not supported"),
    ({"tie_word_embeddings": "false"}, "config.json is not valid"),
    ({"attention_bias": "false"}, "config.json is not valid"),
    ({"logit_scale": 0.0625}, "logit_scale 0.0625, which is not supported"),
    ({"final_logit_softcapping": 30.0}, "final_logit_softcapping 30.0, which is not supported"),
    ({"embedding_multiplier": 12}, "embedding_multiplier 12, which is not supported"),
    ({"num_local_experts": 8}, "num_local_experts 8, which is not supported"),
    ({"is_causal": False}, "is_causal False, which is not supported"),
    ({"use_bidirectional_attention": True}, "use_bidirectional_attention True, which is not supported"),
    ({"sliding_window": 0}, "sliding_window is 0"),
    ({"model_type": "mistral", "sliding_window": -5}, "sliding_window is -5"),
    ({"layer_types": ["sliding_attention"] * 3}, "no sliding_window"),
    ({"layer_types": [["full_attention"]] * 3}, "config.json is not valid"),
    ({"per_layer_config": "x"}, "config.json is not valid"),
    ({"transformers_weights": "other.safetensors"}, "'other.safetensors' (transformers_weights)"),
    ({"quantization_config": "gptq"}, "quantization_config of config.json is 'gptq', expected an object"),
    ({"num_labels": "\n\x1b[31m", "hidden_act": "silu\n\x1b[31m" * 1000}, "unknown hidden_act"),
]


@pytest.mark.parametrize(("changes", "cause"), VALUES, ids=lambda value: str(value)[:60])
def test_values_that_no_model_has_or_that_are_not_computed(changes: dict, cause: str, folder: Path) -> None:
    edit_config(folder, **changes)
    refused(folder, cause)


def test_labels_of_a_classifier_are_not_made(folder: Path) -> None:
    expected = load(folder, device="cpu").run(IDS)
    edit_config(folder, num_labels=10**12)
    assert torch.equal(load(folder, device="cpu").run(IDS), expected)


@pytest.mark.parametrize("neutral", [{"partial_rotary_factor": 1.0}, {"num_experts": None}, {"is_causal": True}, {"logit_scale": 1}])
def test_values_that_change_nothing_are_read(neutral: dict, folder: Path) -> None:
    edit_config(folder, **neutral)
    with torch.no_grad():
        assert_close(load(folder, device="cpu").run(IDS), AutoModelForCausalLM.from_pretrained(folder)(IDS).logits)


def test_json_that_is_nested_too_deeply(folder: Path) -> None:
    (folder / "config.json").write_text("[" * 100_000)
    refused(folder, "config.json", "recursion", "download it again")


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3"])
def test_layers_of_full_and_sliding_attention_are_read_beyond_the_window(model_type: str, tmp_path: Path) -> None:
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    reference = tiny(model_type, use_sliding_window=True, sliding_window=7, layer_types=kinds)
    reference.save_pretrained(tmp_path)
    model = load(tmp_path, device="cpu")
    assert model.spec.max_len == 64
    assert_close(model.run(IDS), reference(IDS).logits)


def test_a_window_that_readers_of_llama_disagree_on_bounds_the_text(tmp_path: Path) -> None:
    reference = tiny("llama", sliding_window=20)
    reference.save_pretrained(tmp_path)
    model = load(tmp_path, device="cpu")
    assert model.spec.max_len == 20
    assert_close(model.run(IDS), reference(IDS).logits)
    with pytest.raises(StrataError, match=r"is read at 21 tokens, and goes up to 20"):
        model.run(torch.cat([IDS, IDS[:, :1]], 1))


def test_floats_beside_a_left_over_file_of_autogptq(folder: Path) -> None:
    expected = load(folder, device="cpu").run(IDS)
    (folder / "quantize_config.json").write_text(json.dumps({"bits": 4, "group_size": 16, "sym": True, "desc_act": False}))
    model = load(folder, device="cpu")
    assert torch.equal(model.run(IDS), expected)
    assert not model.spec.quantised


def test_types_of_torch_are_options(folder: Path) -> None:
    assert load(folder, device=torch.device("cpu"), dtype=torch.bfloat16).dtype == torch.bfloat16
    refused(folder, "unknown dtype 'int8'", dtype=torch.int8)


BAICHUAN: list[tuple[dict[str, Any], str]] = [
    ({}, "may be Baichuan 1 or 2: its vocab_size 97 is neither 64000 nor 125696"),
    ({"norm_head": "false"}, "norm_head 'false', expected true (Baichuan 2) or false"),
    ({"norm_head": None}, "norm_head None, expected true"),
    ({"norm_head": True, "rope_theta": 5e5}, "how positions rotate"),
    ({"norm_head": True, "max_position_embeddings": None}, "max_position_embeddings"),
    ({"norm_head": True, "num_hidden_layers": 10**12}, "num_hidden_layers 1000000000000"),
]


@pytest.mark.parametrize(("said", "cause"), BAICHUAN, ids=str)
def test_baichuan_that_nothing_tells_apart(said: dict, cause: str, tmp_path: Path) -> None:
    config, tensors = baichuan.tiny(max_position_embeddings=64)
    baichuan.save(tmp_path, config | said, tensors)
    refused(tmp_path, cause)


def test_baichuan_whose_kind_nothing_tells(tmp_path: Path) -> None:
    baichuan.save(tmp_path, *baichuan.tiny(norm_head=True))
    refused(tmp_path, "7B kind or of its 13B kind", "add max_position_embeddings to config.json", "model_max_length")


@pytest.mark.parametrize("value", [NAN, INF, 1e39, -1, 0, True, "1e-5", [1]])
def test_numbers_of_rwkv(value: object, tmp_path: Path) -> None:
    torch.save(random_checkpoint("7"), tmp_path / "model.pth")
    (tmp_path / "config.json").write_text(json.dumps({"group_norm_eps": value}))
    refused(tmp_path, "group_norm_eps is", "expected a number above zero")


QUANTISED: list[tuple[Callable[[Weights], Weights], str]] = [
    (lambda w: w | {"model.layers.0.self_attn.q_proj.qweight": w["model.layers.0.self_attn.q_proj.qweight"].float()}, "are damaged"),
    (lambda w: w | {"model.norm.weight": w["model.norm.weight"].int()}, "model.norm.weight holds int32"),
]


@pytest.mark.parametrize(("change", "cause"), QUANTISED, ids=["codes", "norm"])
def test_a_quantised_file_may_hold_integers_where_it_says_so_alone(change: Callable, cause: str, tmp_path: Path) -> None:
    save_gptq(tmp_path, sym=False)
    load(tmp_path, device="cpu")
    rewrite(tmp_path, change)
    refused(tmp_path, cause)


class PanicException(BaseException):
    pass


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (MemoryError(), "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"), "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), "not enough memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "not enough memory"),
        (OSError(12, "Cannot allocate memory"), "not enough memory"),
        (RecursionError("deep"), "nested too deeply"),
        (PermissionError(13, "denied"), "may not be read"),
        (KeyError("a\nb"), r"(KeyError: 'a\nb')"),
        (OverflowError("int too large"), "(OverflowError: int too large)"),
        (PanicException("index out of bounds"), "(PanicException: index out of bounds)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_reading_raises_is_one_line_with_its_origin(error: BaseException, cause: str) -> None:
    with pytest.raises(StrataError, match="cannot read a file") as caught, foreign("a file"):
        raise error
    assert cause in str(caught.value)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), StrataError("said already")], ids=["interrupt", "own"])
def test_what_is_not_of_the_file_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, foreign("a file"):
        raise error
    assert caught.value is error


def test_names_from_files_stay_on_the_line(folder: Path) -> None:
    def rename(w: Weights) -> dict[str, Tensor]:
        return {f"{key}\n\x1b[31m" if key == KEY else key: t for key, t in w.items()}

    rewrite(folder, rename)
    refused(folder, "lacks the weight model.norm.weight")
    rewrite(folder, lambda w: w | {KEY: torch.zeros(48)})
    refused(folder, r"model.norm.weight\n\x1b[31m")
