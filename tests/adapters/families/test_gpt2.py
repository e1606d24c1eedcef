"""GPT-2 against transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters import StrataError, load
from adapters.contract import assert_close
from adapters.families.gpt2 import build
from tests.adapters.checkpoints.test_export import assert_reads_as_ablation
from tests.adapters.published import meta
from tests.reference.hf import tiny
from tests.reference.parity import parametrize_against_hf, refuses

VARIANTS = {
    "tied": {"tie_word_embeddings": True},
    "scales": {"scale_attn_by_inverse_layer_idx": True, "scale_attn_weights": False, "n_inner": 80, "layer_norm_epsilon": 0.1},
}


@parametrize_against_hf("gpt2", VARIANTS)
def test_gpt2(check) -> None:
    check()


def test_other_keys_are_refused() -> None:
    refuses("gpt2", {}, "add_cross_attention True, which is not supported", add_cross_attention=True)
    refuses("gpt2", {}, "n_head is 0, expected a whole number above zero|config.json is not valid", n_head=0)
    refuses("gpt2", {}, "says n_layer 1000, its weights are", n_layer=1000)
    refuses("gpt2", {}, "config.json is not valid", n_embd="many")


def test_texts_that_are_longer_than_the_table_of_positions(tmp_path: Path) -> None:
    tiny("gpt2").save_pretrained(tmp_path)
    model = load(tmp_path, device="cpu")
    assert model.spec.max_len == 64
    with pytest.raises(StrataError, match=r"is read at 65 tokens, and goes up to 64: give it shorter texts"):
        model.run(torch.zeros(1, 65, dtype=torch.long))
    with pytest.raises(StrataError, match="is read at 70 tokens"):
        model.begin(torch.zeros(2, 20, dtype=torch.long), lengths=torch.tensor([20, 3]), start=torch.tensor([50, 60]))
    model.begin(torch.zeros(2, 20, dtype=torch.long), lengths=torch.tensor([4, 3]), start=torch.tensor([50, 60]))


def test_files_without_the_prefix(tmp_path: Path) -> None:
    """As the published ones, which have buffers and no head."""
    reference = tiny("gpt2", tie_word_embeddings=True)
    reference.save_pretrained(tmp_path / "dense")
    file = tmp_path / "dense" / "model.safetensors"
    bare = {key.removeprefix("transformer."): t for key, t in load_file(file).items()}
    buffers = {f"h.{i}.attn.bias": torch.ones(1, 1, 64, 64) for i in range(3)}
    save_file(bare | buffers, file, metadata={"format": "pt"})
    ids = torch.arange(40)[None]
    with torch.no_grad():
        assert_close(load(tmp_path / "dense", device="cpu").run(ids), reference(ids).logits)
    assert assert_reads_as_ablation(tmp_path / "dense", [1], tmp_path / "out") == "transformers"
    assert set(load_file(tmp_path / "out" / "model.safetensors")) == {key for key in bare if not key.startswith("h.2.")}


SMALL = {
    "activation_function": "gelu_new",
    "architectures": ["GPT2LMHeadModel"],
    "attn_pdrop": 0.1,
    "bos_token_id": 50256,
    "embd_pdrop": 0.1,
    "eos_token_id": 50256,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2",
    "n_ctx": 1024,
    "n_embd": 768,
    "n_head": 12,
    "n_layer": 12,
    "n_positions": 1024,
    "resid_pdrop": 0.1,
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    "vocab_size": 50257,
}


@pytest.mark.shows("gpt2", checkpoint="openai-community/gpt2")
def test_published_shapes() -> None:
    d = 768
    block = {
        "attn.bias": (1, 1, 1024, 1024),
        "attn.c_attn.bias": (3 * d,),
        "attn.c_attn.weight": (d, 3 * d),
        "attn.c_proj.bias": (d,),
        "attn.c_proj.weight": (d, d),
        "mlp.c_fc.bias": (4 * d,),
        "mlp.c_fc.weight": (d, 4 * d),
        "mlp.c_proj.bias": (d,),
        "mlp.c_proj.weight": (4 * d, d),
        **dict.fromkeys(("ln_1.bias", "ln_1.weight", "ln_2.bias", "ln_2.weight"), (d,)),
    }
    ends = {"wte.weight": (50257, d), "wpe.weight": (1024, d), "ln_f.weight": (d,), "ln_f.bias": (d,)}
    model = meta(build, SMALL, ends | {f"h.{i}.{key}": shape for i in range(12) for key, shape in block.items()})
    assert model.spec.n_params == 124_439_808
    assert {(b.n_heads, b.head_dim, b.d_ffn) for b in model.spec.blocks} == {(12, 64, 3072)}
    assert model.spec.max_len == 1024
