"""OPT and Galactica: LayerNorm in front of each part, and learned positions, of which the table has two rows before the first.

OPT-350M is refused: it projects its embeddings, and its norms are of the stream itself, behind each part.
"""

from __future__ import annotations

from adapters.checkpoints.layout import Layout
from adapters.families.table import Config, Decoder, DecoderFamily, Layer, modules
from adapters.norms import layer_norm

_DECODER = "model.decoder."
_LAYER = _DECODER + "layers.{i}."
LAYOUT = Layout(
    model=modules(
        {
            "embed": _DECODER + "embed_tokens",
            "positions": _DECODER + "embed_positions",
            "norm": _DECODER + "final_layer_norm",
            "unembed": "lm_head",
        }
    ),
    block=modules(
        {
            "mixer_norm": _LAYER + "self_attn_layer_norm",
            **{role: f"{_LAYER}self_attn.{role}_proj" for role in "qkv"},
            "o": _LAYER + "self_attn.out_proj",
            "ffn_norm": _LAYER + "final_layer_norm",
            "up": _LAYER + "fc1",
            "down": _LAYER + "fc2",
        }
    ),
    prefix="model.",
)


def _fill(config: dict) -> dict:
    """The epsilon of norms is torch's, whatever config.json says; a projection as wide as the stream is none."""
    projects = config.get("word_embed_proj_dim") not in (None, config.get("hidden_size", 768))
    return {"layer_norm_eps": 1e-5} | ({} if projects else {"word_embed_proj_dim": None})


def _layers(cfg: Config) -> list[Layer]:
    return [Layer(rotation=None)] * cfg.num_hidden_layers


OPT = Decoder(
    layout=LAYOUT,
    names={
        "intermediate_size": "ffn_dim",
        "num_key_value_heads": "num_attention_heads",
        "rms_norm_eps": "layer_norm_eps",
        "hidden_act": "activation_function",
    },
    fill=_fill,
    norm=layer_norm,
    norm_bias=True,
    gated=False,
    biased=lambda cfg: [*"qkvo", "up", "down"] if cfg.enable_bias else (),
    layers=_layers,
    learned_positions=2,
)
FAMILY = DecoderFamily("opt", {"opt": OPT})
build, layout = FAMILY.build, FAMILY.layout
