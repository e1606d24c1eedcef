"""Cohere, Aya and Command R: LayerNorm without a bias, one for both parts, which are parallel; channels rotate in pairs of neighbours.

In Command R+ the queries and keys of each head have a norm of their own.
"""

from __future__ import annotations

from dataclasses import replace

from adapters.families import llama
from adapters.families.table import Config, Decoder, DecoderFamily, modules
from adapters.norms import layer_norm

_ATTENTION = "model.layers.{i}.self_attn."
LAYOUT = replace(
    llama.LAYOUT, block={**llama.LAYOUT.block, **modules({"q_norms": _ATTENTION + "q_norm", "k_norms": _ATTENTION + "k_norm"})}
)


def _norms_of_heads(cfg: Config) -> dict[str, tuple[int, int]]:
    head_dim = getattr(cfg, "head_dim", None) or cfg.hidden_size // cfg.num_attention_heads
    return {"q_norms": (cfg.num_attention_heads, head_dim), "k_norms": (cfg.num_key_value_heads, head_dim)} if cfg.use_qk_norm else {}


COHERE = Decoder(
    layout=LAYOUT,
    names={"rms_norm_eps": "layer_norm_eps"},
    reads=("logit_scale", "use_qk_norm"),
    norm=layer_norm,
    vectors=_norms_of_heads,
    norms=("mixer_norm",),
    biased=lambda cfg: "qkvo" if cfg.attention_bias else "",
    parallel=lambda cfg: True,
    neighbours=True,
    logit_scale=lambda cfg: cfg.logit_scale,
)
FAMILY = DecoderFamily("cohere", {"cohere": COHERE})
build, layout = FAMILY.build, FAMILY.layout
