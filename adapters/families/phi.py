"""Phi-1, 1.5 and 2: one LayerNorm for both parts, which are parallel, partial rotation, and biases everywhere, the head's among them."""

from __future__ import annotations

from adapters.checkpoints.layout import Layout
from adapters.families.table import Config, Decoder, DecoderFamily, modules
from adapters.norms import layer_norm

_LAYER = "model.layers.{i}."
LAYOUT = Layout(
    model=modules({"embed": "model.embed_tokens", "norm": "model.final_layernorm", "unembed": "lm_head"}),
    block=modules(
        {
            "mixer_norm": _LAYER + "input_layernorm",
            **{role: f"{_LAYER}self_attn.{role}_proj" for role in "qkv"},
            "o": _LAYER + "self_attn.dense",
            "q_norm": _LAYER + "self_attn.q_layernorm",
            "k_norm": _LAYER + "self_attn.k_layernorm",
            "up": _LAYER + "mlp.fc1",
            "down": _LAYER + "mlp.fc2",
        }
    ),
    ignored=("rotary_emb.inv_freq",),
)


def _norms_of_heads(cfg: Config) -> dict[str, int]:
    roles = ("q_norm", "q_norm_bias", "k_norm", "k_norm_bias") if cfg.qk_layernorm else ()
    return dict.fromkeys(roles, cfg.hidden_size // cfg.num_attention_heads)


PHI = Decoder(
    layout=LAYOUT,
    names={"rms_norm_eps": "layer_norm_eps"},
    reads=("partial_rotary_factor", "qk_layernorm"),
    norm=layer_norm,
    vectors=_norms_of_heads,
    norms=("mixer_norm",),
    norm_bias=True,
    gated=False,
    biased=lambda cfg: [*"qkvo", "up", "down"],
    parallel=lambda cfg: True,
    unembed_bias=True,
)
FAMILY = DecoderFamily("phi", {"phi": PHI})
build, layout = FAMILY.build, FAMILY.layout
