"""Llama-like checkpoints against Hugging Face's own models."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from adapters import Ablation, BlockModel, load
from adapters.contract import assert_close, parametrize_with_checks
from adapters.families.llama import build
from tests.adapters.published import published
from tests.reference.hf import observe, tiny
from tests.reference.naive import naive_nll
from tests.reference.parity import parametrize_against_hf
from tests.shared_data import shared

ODD = {"head_dim": 20, "num_attention_heads": 6, "num_key_value_heads": 3}
MODELS: dict[str, tuple[str, dict]] = {
    "llama": ("llama", {}),
    "llama-all-heads": ("llama", {"num_key_value_heads": 4}),
    "llama-one-kv-head": ("llama", {"num_key_value_heads": 1}),
    "llama-biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-odd-head-dim": ("llama", ODD | {"attention_bias": True}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "llama-eps-gelu": ("llama", {"rms_norm_eps": 0.1, "hidden_act": "gelu"}),
    "mistral": ("mistral", ODD | {"sliding_window": None}),
    "qwen2": ("qwen2", {}),
    "qwen2-tied": ("qwen2", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    "qwen3": ("qwen3", ODD),
    "qwen3-biases": ("qwen3", ODD | {"attention_bias": True}),
}
ROPES: dict[str, dict] = {
    "default": {"rope_theta": 500.0},
    "linear": {"factor": 3.0},
    "dynamic": {"factor": 2.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 16, "attention_factor": 1.3},
    "longrope": {
        "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
        "long_factor": [2.0, 2.2, 2.4, 2.6, 2.8, 3.0],
        "original_max_position_embeddings": 32,
        "factor": 2.0,
    },
    "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32},
    "proportional": {"partial_rotary_factor": 0.5},
}


def saved(folder: Path, model_type: str = "llama", **config: object) -> PreTrainedModel:
    model = tiny(model_type, **config)
    model.save_pretrained(folder)
    return model


def tokens(vocab_size: int = 97, time: int = 37) -> torch.Tensor:
    return torch.randint(vocab_size, (3, time), generator=torch.Generator().manual_seed(5))


def assert_same(model: BlockModel, reference: PreTrainedModel, ids: torch.Tensor) -> None:
    """Logits, every stream and every z of both models."""
    expected, parts = observe(reference, ids), []
    with torch.inference_mode():
        assert_close(model.run(ids, tap=lambda _, p: parts.append(p)), expected.logits)
    assert len(parts) == len(expected.z)
    for i, p in enumerate(parts):
        assert_close(p.x_in, expected.streams[i])
        assert_close(p.x_mid, expected.mids[i])
        assert_close(p.x_out, expected.streams[i + 1])
        assert_close(p.z.flatten(-2), expected.z[i])


@pytest.mark.parametrize("name", MODELS)
def test_equals_hugging_face(name: str, tmp_path: Path) -> None:
    model_type, config = MODELS[name]
    reference = saved(tmp_path, model_type, **config)
    model = load(tmp_path, dtype="float32", device="cpu")
    assert_same(model, reference, tokens())
    assert (model.spec.family, model.spec.variant) == ("llama", model_type)
    assert model.spec.n_params == reference.num_parameters()
    layer = reference.model.layers[0]
    assert model.spec.blocks[0].n_params == sum(p.numel() for p in layer.parameters())
    assert model.spec.blocks[0].mixer_params == sum(p.numel() for m in (layer.self_attn, layer.input_layernorm) for p in m.parameters())
    assert model.spec.blocks[0].flops_per_token == 2 * sum(p.numel() for p in layer.parameters() if p.dim() == 2)


def test_every_scaling_that_transformers_knows_is_tested() -> None:
    assert set(ROPES) == {"default", *ROPE_INIT_FUNCTIONS}


@pytest.mark.parametrize("rope", ROPES)
@pytest.mark.parametrize("time", [20, 60, 80])  # below and above the original context, and above the whole one
def test_rope_scaling_equals_hugging_face(rope: str, time: int, tmp_path: Path) -> None:
    reference = saved(tmp_path, rope_parameters={"rope_type": rope, "rope_theta": 100.0} | ROPES[rope])
    assert_same(load(tmp_path, dtype="float32", device="cpu"), reference, tokens(time=time))


def test_old_spelling_of_rope_scaling(tmp_path: Path) -> None:
    reference = saved(tmp_path, rope_parameters={"rope_type": "linear", "rope_theta": 100.0, "factor": 3.0})
    config = json.loads((tmp_path / "config.json").read_text())
    del config["rope_parameters"]
    config |= {"rope_theta": 100.0, "rope_scaling": {"type": "linear", "factor": 3.0}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_same(load(tmp_path, dtype="float32", device="cpu"), reference, tokens())


def test_flags_among_the_numbers_of_a_scaling(tmp_path: Path) -> None:
    """`finetuned` stands in published files and changes nothing, `truncate` says how transformers rounds."""
    yarn = {"rope_type": "yarn", "rope_theta": 100.0, "truncate": False} | ROPES["yarn"]
    reference = saved(tmp_path, rope_parameters=yarn)
    config = json.loads((tmp_path / "config.json").read_text())
    config["rope_parameters"]["finetuned"] = False
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_same(load(tmp_path, dtype="float32", device="cpu"), reference, tokens())


def sharded(model: PreTrainedModel, folder: Path) -> None:
    model.save_pretrained(folder, max_shard_size="60KB")
    assert len(list(folder.glob("*.safetensors"))) > 2


def pickled(model: PreTrainedModel, folder: Path) -> None:
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


def pickled_long_ago(model: PreTrainedModel, folder: Path) -> None:
    """Not a zip file, as torch wrote before version 1.6."""
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def pickled_shards(model: PreTrainedModel, folder: Path) -> None:
    model.config.save_pretrained(folder)
    state = model.state_dict()
    names = {key: f"pytorch_model-0000{1 + (i % 2)}-of-00002.bin" for i, key in enumerate(state)}
    for name in set(names.values()):
        torch.save({key: t for key, t in state.items() if names[key] == name}, folder / name)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": names}))


def with_inverse_frequencies(model: PreTrainedModel, folder: Path) -> None:
    """As in the published Llama-2 files, which hold buffers too."""
    model.config.save_pretrained(folder)
    buffers = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(6) for i in range(3)}
    torch.save(model.state_dict() | buffers, folder / "pytorch_model.bin")


@pytest.mark.parametrize("save", [sharded, pickled, pickled_long_ago, pickled_shards, with_inverse_frequencies])
@pytest.mark.parametrize("tied", [False, True])
def test_other_files_hold_the_same_model(save: Callable[[PreTrainedModel, Path], None], tied: bool, tmp_path: Path) -> None:
    reference = tiny(tie_word_embeddings=tied)
    save(reference, tmp_path)
    model = load(tmp_path, dtype="float32", device="cpu")
    assert_same(model, reference, tokens())
    assert model.spec.n_params == reference.num_parameters()


@pytest.mark.parametrize("differs", [False, True])
def test_a_head_beside_tied_embeddings(differs: bool, tmp_path: Path) -> None:
    saved(tmp_path, tie_word_embeddings=True)
    weights = load_file(tmp_path / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] * (1.5 if differs else 1.0)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    reference = AutoModelForCausalLM.from_pretrained(tmp_path)
    model = load(tmp_path, dtype="float32", device="cpu")
    assert_same(model, reference, tokens())
    assert model.spec.n_params == reference.num_parameters()
    assert load(tmp_path, dtype="float32", device="meta").spec == model.spec


def test_hash_tells_weights_apart(tmp_path: Path) -> None:
    hashes = []
    for n, seed in enumerate((0, 0, 1)):
        tiny(seed=seed).save_pretrained(tmp_path / str(n))
        hashes.append(load(tmp_path / str(n)).spec.source_hash)
    assert hashes[0] == hashes[1] != hashes[2]


ABLATIONS = [
    Ablation(),
    Ablation(blocks={0}),
    Ablation(blocks={1, 2}),
    Ablation(mixers={1}),
    Ablation(ffns={2}),
    Ablation(heads={(0, 3)}),
    Ablation(heads={(1, h) for h in range(6)}),
    Ablation(blocks={2}, mixers={0}, heads={(1, 0), (1, 5)}),
    Ablation(ffns={0, 1}, mixers={2}, heads={(0, 1), (1, 2)}),
]


@pytest.mark.parametrize("ablation", ABLATIONS, ids=str)
def test_ablations_equal_modules_taken_out(ablation: Ablation, tmp_path: Path) -> None:
    reference = saved(tmp_path, num_hidden_layers=3, mlp_bias=True, attention_bias=True, **ODD)
    ids = tokens()
    logits = load(tmp_path, dtype="float32", device="cpu").run(ids, ablation)[:, :-1]
    nll = torch.nn.functional.cross_entropy(logits.flatten(0, 1).double(), ids[:, 1:].flatten(), reduction="none")
    # A mixer or an ffn that is out adds nothing, heads that are out leave the projection's bias: both as in the naive loop.
    assert_close(nll, naive_nll(reference, ids, ablation).flatten())


@pytest.mark.parametrize("time", [9, 10, 37])
def test_sliding_windows_equal_hugging_face(time: int, tmp_path: Path) -> None:
    reference = saved(tmp_path, "mistral", sliding_window=9)
    model = load(tmp_path, device="cpu")
    assert model.spec.max_len == 64
    assert_same(model, reference, tokens(time=time))


def test_dtypes_of_file_and_model(tmp_path: Path) -> None:
    tiny().bfloat16().save_pretrained(tmp_path)
    reference = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert load(tmp_path, device="cpu").dtype == torch.float32  # auto, on a CPU
    assert_same(load(tmp_path, device="cpu"), reference, tokens())
    half = load(tmp_path, device="cpu", dtype="bfloat16")
    assert {t.dtype for table in (half.weights, *(b.weights for b in half.blocks)) for t in table.values()} == {torch.bfloat16}


def test_stories_gguf_equals_hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A really trained model, through the conversion of GGUF files."""
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path))
    file = shared("models/stories260K/stories260K.gguf")
    cfg = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
    cfg.pad_token_id = None  # the header's is out of range
    reference = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, config=cfg, dtype=torch.float32).eval()
    model = load(file, device="cpu")
    assert_same(model, reference, tokens(model.spec.vocab_size, 100))
    assert model.tokenizer is not None
    ids = torch.tensor([[1, *model.tokenizer.encode("Once upon a time, there was a little girl named Lily.").ids]])
    nll = torch.nn.functional.cross_entropy(model.run(ids)[0, :-1], ids[0, 1:])
    assert nll < 2.5, "a trained model reads its own kind of text"


def loaded(name: str) -> BlockModel:
    model_type, config = MODELS[name]
    with tempfile.TemporaryDirectory() as folder:
        saved(Path(folder), model_type, **config)
        return load(folder, dtype="float32", device="cpu")


@parametrize_with_checks({name: partial(loaded, name) for name in ("llama", "llama-biases", "llama-tied", "mistral", "qwen2", "qwen3")})
def test_contract(check: Callable[[], None]) -> None:
    check()


@parametrize_against_hf(
    "llama", {"plain": {}, "biases and tied": {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}}, long=True
)
def test_llama_in_all_that_it_can(check) -> None:
    check()


@parametrize_against_hf("mistral", {"slides": {"sliding_window": 9}, "plain": {"sliding_window": None, "head_dim": 20}}, long=True)
def test_mistral_in_all_that_it_can(check) -> None:
    check()


@parametrize_against_hf("qwen3", {"odd": {"head_dim": 20}, "biases": {"attention_bias": True, "num_key_value_heads": 4}}, long=True)
def test_qwen3_in_all_that_it_can(check) -> None:
    check()


def block_shapes(d: int, kv: int, ffn: int, old: bool) -> dict[str, tuple[int, ...]]:
    return {
        "input_layernorm.weight": (d,),
        "mlp.down_proj.weight": (d, ffn),
        "mlp.gate_proj.weight": (ffn, d),
        "mlp.up_proj.weight": (ffn, d),
        "post_attention_layernorm.weight": (d,),
        "self_attn.k_proj.weight": (kv, d),
        "self_attn.o_proj.weight": (d, d),
        "self_attn.q_proj.weight": (d, d),
        "self_attn.v_proj.weight": (kv, d),
    } | ({"self_attn.rotary_emb.inv_freq": (64,)} if old else {})


LLAMA_2 = {
    "architectures": ["LlamaForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 4096,
    "model_type": "llama",
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "transformers_version": "4.31.0.dev0",
    "use_cache": True,
    "vocab_size": 32000,
}
LLAMA_2_7B = LLAMA_2 | {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
}
LLAMA_2_13B = LLAMA_2 | {
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_attention_heads": 40,
    "num_hidden_layers": 40,
    "num_key_value_heads": 40,
}
LLAMA_3_8B = LLAMA_2_7B | {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "intermediate_size": 14336,
    "max_position_embeddings": 8192,
    "num_key_value_heads": 8,
    "rope_theta": 500000.0,
    "torch_dtype": "bfloat16",
    "vocab_size": 128256,
}


@pytest.mark.shows("llama", checkpoint="meta-llama/Llama-2-7b-hf")
@pytest.mark.parametrize(
    ("config", "block", "n_params", "n_heads", "n_kv_heads"),
    [
        (LLAMA_2_7B, block_shapes(4096, 4096, 11008, old=True), 6_738_415_616, 32, 32),
        (LLAMA_2_13B, block_shapes(5120, 5120, 13824, old=True), 13_015_864_320, 40, 40),
        (LLAMA_3_8B, block_shapes(4096, 1024, 14336, old=False), 8_030_261_248, 32, 8),
    ],
    ids=["Llama-2-7B", "Llama-2-13B", "Llama-3-8B"],
)
def test_published_shapes(config: dict, block: dict, n_params: int, n_heads: int, n_kv_heads: int) -> None:
    model = published(build, config, block)
    assert model.spec.n_params == n_params
    assert {(b.n_heads, b.n_kv_heads, b.head_dim) for b in model.spec.blocks} == {(n_heads, n_kv_heads, 128)}
    assert model.spec.max_len == config["max_position_embeddings"]
    assert model.config.rope_parameters["rope_theta"] == config.get("rope_theta", 10000.0)
    assert model.run(torch.zeros(1, 4, dtype=torch.long, device="meta")).shape == (1, 4, config["vocab_size"])
