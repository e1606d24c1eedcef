"""OLMo 2: no norm in front of a part and one behind it; queries and keys of all heads under one norm each."""

from __future__ import annotations

from dataclasses import replace

from adapters.families import llama
from adapters.families.table import Config, DecoderFamily, modules

_LAYER = "model.layers.{i}."
LAYOUT = replace(
    llama.LAYOUT,
    block={
        **{role: slot for role, slot in llama.LAYOUT.block.items() if role not in ("mixer_norm", "ffn_norm")},
        **modules({"mixer_post_norm": _LAYER + "post_attention_layernorm", "ffn_post_norm": _LAYER + "post_feedforward_layernorm"}),
    },
)


def norms_of_all_heads(cfg: Config) -> dict[str, int]:
    head_dim = cfg.hidden_size // cfg.num_attention_heads
    return {"q_norm": cfg.num_attention_heads * head_dim, "k_norm": cfg.num_key_value_heads * head_dim}


OLMO2 = replace(llama.LLAMA, layout=LAYOUT, norms=("mixer_post_norm", "ffn_post_norm"), vectors=norms_of_all_heads)
FAMILY = DecoderFamily("olmo2", {"olmo2": OLMO2})
build, layout = FAMILY.build, FAMILY.layout
