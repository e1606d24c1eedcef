"""GPT-NeoX and Pythia: LayerNorm, queries, keys and values in one module head by head, partial rotation, an ffn in parallel."""

from __future__ import annotations

from adapters.checkpoints.layout import Layout
from adapters.families.table import Decoder, DecoderFamily, modules
from adapters.norms import layer_norm

_LAYER = "gpt_neox.layers.{i}."
LAYOUT = Layout(
    model=modules({"embed": "gpt_neox.embed_in", "norm": "gpt_neox.final_layer_norm", "unembed": "embed_out"}),
    block=modules(
        {
            "mixer_norm": _LAYER + "input_layernorm",
            "ffn_norm": _LAYER + "post_attention_layernorm",
            "q k v by group": _LAYER + "attention.query_key_value",
            "o": _LAYER + "attention.dense",
            "up": _LAYER + "mlp.dense_h_to_4h",
            "down": _LAYER + "mlp.dense_4h_to_h",
        }
    ),
    ignored=("rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias"),
)
GPT_NEOX = Decoder(
    layout=LAYOUT,
    names={"num_key_value_heads": "num_attention_heads", "rms_norm_eps": "layer_norm_eps"},
    reads=("use_parallel_residual", "rotary_pct", "partial_rotary_factor"),
    norm=layer_norm,
    norm_bias=True,
    gated=False,
    biased=lambda cfg: [*("qkvo" if cfg.attention_bias else ""), "up", "down"],
    parallel=lambda cfg: cfg.use_parallel_residual,
)
FAMILY = DecoderFamily("gpt_neox", {"gpt_neox": GPT_NEOX})
build, layout = FAMILY.build, FAMILY.layout
