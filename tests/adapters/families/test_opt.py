"""OPT against transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters import StrataError, load
from adapters.contract import assert_close
from adapters.families.opt import build
from tests.adapters.checkpoints.test_export import assert_reads_as_ablation
from tests.adapters.published import meta
from tests.reference.hf import tiny
from tests.reference.parity import parametrize_against_hf, refuses

SIZES = {"ffn_dim": 80}
VARIANTS = {
    "biased": SIZES | {"tie_word_embeddings": True},
    "galactica": SIZES | {"enable_bias": False, "activation_function": "gelu"},
}


@parametrize_against_hf("opt", VARIANTS, long=True)
def test_opt(check) -> None:
    check()


def test_other_keys_are_refused() -> None:
    refuses("opt", SIZES, "config.json says word_embed_proj_dim 32, which is not supported", word_embed_proj_dim=32)
    refuses("opt", SIZES, "config.json says do_layer_norm_before False, which is not supported", do_layer_norm_before=False)
    refuses("opt", SIZES, "layer_norm_elementwise_affine False, which is not supported", layer_norm_elementwise_affine=False)
    refuses("opt", SIZES, "_remove_final_layer_norm True, which is not supported", _remove_final_layer_norm=True)


def test_texts_that_are_longer_than_the_table_of_positions(tmp_path: Path) -> None:
    """It has two rows more, which are of no token."""
    tiny("opt", **SIZES).save_pretrained(tmp_path)
    model = load(tmp_path, device="cpu")
    assert model.spec.max_len == 64
    assert model.weights["positions"].shape == (66, 48)
    model.run(torch.zeros(1, 64, dtype=torch.long))
    with pytest.raises(StrataError, match=r"is read at 65 tokens, and goes up to 64: give it shorter texts"):
        model.run(torch.zeros(1, 65, dtype=torch.long))


def test_files_without_the_prefix(tmp_path: Path) -> None:
    """As some published ones."""
    reference = tiny("opt", **SIZES, tie_word_embeddings=True)
    reference.save_pretrained(tmp_path / "dense")
    file = tmp_path / "dense" / "model.safetensors"
    save_file({key.removeprefix("model."): t for key, t in load_file(file).items()}, file, metadata={"format": "pt"})
    ids = torch.arange(40)[None]
    with torch.no_grad():
        assert_close(load(tmp_path / "dense", device="cpu").run(ids), reference(ids).logits)
    assert assert_reads_as_ablation(tmp_path / "dense", [1], tmp_path / "out") == "transformers"


OPT_125M = {
    "_remove_final_layer_norm": False,
    "activation_dropout": 0.0,
    "activation_function": "relu",
    "architectures": ["OPTForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 2,
    "do_layer_norm_before": True,
    "dropout": 0.1,
    "eos_token_id": 2,
    "ffn_dim": 3072,
    "hidden_size": 768,
    "init_std": 0.02,
    "layerdrop": 0.0,
    "max_position_embeddings": 2048,
    "model_type": "opt",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 1,
    "prefix": "</s>",
    "torch_dtype": "float16",
    "use_cache": True,
    "vocab_size": 50272,
    "word_embed_proj_dim": 768,
}


@pytest.mark.shows("opt", checkpoint="facebook/opt-125m")
def test_published_shapes() -> None:
    d, ffn, vocab = 768, 3072, 50272
    block = {
        **{f"self_attn.{name}.weight": (d, d) for name in ("q_proj", "k_proj", "v_proj", "out_proj")},
        **{f"self_attn.{name}.bias": (d,) for name in ("q_proj", "k_proj", "v_proj", "out_proj")},
        **{f"{norm}.{end}": (d,) for norm in ("self_attn_layer_norm", "final_layer_norm") for end in ("weight", "bias")},
        "fc1.weight": (ffn, d),
        "fc1.bias": (ffn,),
        "fc2.weight": (d, ffn),
        "fc2.bias": (d,),
    }
    ends = {"embed_tokens.weight": (vocab, d), "embed_positions.weight": (2050, d)}
    ends |= dict.fromkeys(("final_layer_norm.weight", "final_layer_norm.bias"), (d,))
    keys = ends | {f"layers.{i}.{key}": shape for i in range(12) for key, shape in block.items()}
    for whole in (
        {f"model.decoder.{key}": shape for key, shape in keys.items()},
        {f"decoder.{key}": shape for key, shape in keys.items()},
    ):
        model = meta(build, OPT_125M, whole)
        assert {(b.n_heads, b.head_dim, b.d_ffn) for b in model.spec.blocks} == {(12, 64, 3072)}
        assert model.spec.max_len == 2048
    assert model.spec.n_params == 125_239_296
