"""GPT-2: LayerNorm, learned positions, and modules whose weights are saved the other way round, in one of which are q, k and v."""

from __future__ import annotations

from adapters.checkpoints.layout import Layout
from adapters.families.table import Config, Decoder, DecoderFamily, Layer, modules
from adapters.norms import layer_norm

_BLOCK = "transformer.h.{i}."
LAYOUT = Layout(
    model=modules({"embed": "transformer.wte", "positions": "transformer.wpe", "norm": "transformer.ln_f", "unembed": "lm_head"}),
    block={
        **modules({"mixer_norm": _BLOCK + "ln_1", "ffn_norm": _BLOCK + "ln_2"}),
        **modules(
            {
                "q k v": _BLOCK + "attn.c_attn",
                "o": _BLOCK + "attn.c_proj",
                "up": _BLOCK + "mlp.c_fc",
                "down": _BLOCK + "mlp.c_proj",
            },
            transposed=True,
        ),
    },
    ignored=(".attn.bias", ".attn.masked_bias"),
    prefix="transformer.",
)


NAMES = {  # of GPT-2's configuration, which GPT-J's took over
    "hidden_size": "n_embd",
    "intermediate_size": "n_inner",
    "num_hidden_layers": "n_layer",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_key_value_heads": "n_head",
    "rms_norm_eps": "layer_norm_epsilon",
    "hidden_act": "activation_function",
}


def _fill(config: dict) -> dict:
    width = config.get("n_embd", config.get("hidden_size", 768))
    return {} if config.get("n_inner") or not isinstance(width, int) else {"n_inner": 4 * width}


def _layers(cfg: Config) -> list[Layer]:
    """Scores are divided by the square root of a head's width, by the number of the block, or by both."""
    width = (cfg.hidden_size // cfg.num_attention_heads) ** -0.5 if cfg.scale_attn_weights else 1.0
    by_index = cfg.scale_attn_by_inverse_layer_idx
    return [Layer(rotation=None, scale=width / (i + 1) if by_index else width) for i in range(cfg.num_hidden_layers)]


GPT2 = Decoder(
    layout=LAYOUT,
    names=NAMES,
    reads=("scale_attn_weights", "scale_attn_by_inverse_layer_idx"),
    fill=_fill,
    norm=layer_norm,
    norm_bias=True,
    gated=False,
    biased=lambda cfg: [*"qkvo", "up", "down"],
    layers=_layers,
    learned_positions=0,
)
FAMILY = DecoderFamily("gpt2", {"gpt2": GPT2})
build, layout = FAMILY.build, FAMILY.layout
