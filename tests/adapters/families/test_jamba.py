"""Jamba against transformers: attention, Mamba, experts and MLPs in one list of blocks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from adapters import Ablation, StrataError
from adapters.families.jamba import build
from analysis.engine.ablations import block_kinds, single_ablations
from tests.adapters.published import meta
from tests.reference.models import pair
from tests.reference.parity import EXPERTS, Pair, check_every_key, check_forward, check_pruned_files, parametrize_against_hf, refuses

SMALL = {
    "mamba_d_state": 4,
    "mamba_dt_rank": 6,
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "expert_layer_period": 2,
    "expert_layer_offset": 1,
    "num_experts": 6,
    "num_experts_per_tok": 2,
}
ODD = SMALL | {"attn_layer_period": 3, "expert_layer_period": 1, "expert_layer_offset": 0, "num_experts": 5}
ODD |= {"mamba_proj_bias": True, "mamba_conv_bias": False, "tie_word_embeddings": True}


@parametrize_against_hf("jamba", {"attention with experts": SMALL, "Mamba with experts": ODD}, also=EXPERTS)
def test_jamba(check: Callable[[], None]) -> None:
    check()


@pytest.mark.parametrize("check", [check_forward, check_pruned_files, check_every_key])
def test_one_expert_is_an_mlp(check: Callable[[Pair], None]) -> None:
    """Tokens are then sent to none, whatever config.json says."""
    p = Pair("jamba", SMALL | {"num_experts": 1})
    assert not p.model.spec.has_experts
    check(p)


def test_kinds_of_blocks() -> None:
    model, _ = pair("jamba", **SMALL)
    assert [(b.n_heads, b.n_experts) for b in model.spec.blocks] == [(None, 0), (4, 6), (None, 0)]
    assert block_kinds(model.spec) == ("blocks", "mixers", "ffns")
    assert {block for a in single_ablations(model.spec, ["heads"]) for block, _ in a.heads} == {1}
    with pytest.raises(StrataError, match=r"block 0 of .* has no heads"):
        Ablation(heads=[(0, 0)]).check(model.spec)


def test_what_is_not_supported_is_refused_by_name() -> None:
    refuses("jamba", SMALL, "mamba_d_state is 0, expected a whole number above zero", mamba_d_state=0)
    refuses("jamba", SMALL, "hidden_act 'gelu' is not supported", hidden_act="gelu")


JAMBA = {
    "model_type": "jamba",
    "vocab_size": 65536,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_experts": 16,
    "mamba_dt_rank": 256,
    "tie_word_embeddings": False,
}


@pytest.mark.shows("jamba", checkpoint="ai21labs/Jamba-v0.1")
def test_published_checkpoint() -> None:
    d, inner, width = 4096, 8192, 14336
    mlp = {"gate_proj.weight": (width, d), "up_proj.weight": (width, d), "down_proj.weight": (d, width)}
    own = {"in_proj.weight": (2 * inner, d), "conv1d.weight": (inner, 1, 4), "conv1d.bias": (inner,), "x_proj.weight": (256 + 32, inner)}
    own |= {"dt_proj.weight": (inner, 256), "dt_proj.bias": (inner,), "A_log": (inner, 16), "D": (inner,), "out_proj.weight": (d, inner)}
    own |= {"dt_layernorm.weight": (256,), "b_layernorm.weight": (16,), "c_layernorm.weight": (16,)}
    attention = {"q_proj.weight": (d, d), "k_proj.weight": (1024, d), "v_proj.weight": (1024, d), "o_proj.weight": (d, d)}
    shapes = {"model.embed_tokens.weight": (65536, d), "model.final_layernorm.weight": (d,), "lm_head.weight": (65536, d)}
    for i in range(32):
        block = {"input_layernorm.weight": (d,), "pre_ff_layernorm.weight": (d,)}
        block |= {f"self_attn.{key}": s for key, s in attention.items()} if i % 8 == 4 else {f"mamba.{key}": s for key, s in own.items()}
        if i % 2:
            block |= {f"feed_forward.experts.{e}.{key}": s for e in range(16) for key, s in mlp.items()}
            block["feed_forward.router.weight"] = (16, d)
        else:
            block |= {f"feed_forward.{key}": s for key, s in mlp.items()}
        shapes |= {f"model.layers.{i}.{key}": s for key, s in block.items()}
    model = meta(build, JAMBA, shapes)
    assert model.spec.n_params == 51_570_323_328
    assert round(model.spec.active_params / 1e9) == 12, "as its card says"
    assert [i for i, block in enumerate(model.spec.blocks) if block.n_heads] == [4, 12, 20, 28]
