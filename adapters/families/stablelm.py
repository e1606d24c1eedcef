"""StableLM: the Llama block with LayerNorm and partial rotation; its parts may be parallel under one norm, its heads have norms."""

from __future__ import annotations

from dataclasses import replace

from adapters.families import llama
from adapters.families.table import Config, Decoder, DecoderFamily, modules
from adapters.norms import layer_norm

LAYOUT = replace(
    llama.LAYOUT,
    model=modules({"embed": "model.embed_tokens", "norm": "model.norm", "unembed": "lm_head"}),
    block={
        **llama.LAYOUT.block,
        **modules({f"{role}_norms": f"model.layers.{{i}}.self_attn.{role}_layernorm.norms.{{h}}" for role in "qk"}),
    },
)


def _norms_of_heads(cfg: Config) -> dict[str, tuple[int, int]]:
    head_dim = cfg.hidden_size // cfg.num_attention_heads
    return {"q_norms": (cfg.num_attention_heads, head_dim), "k_norms": (cfg.num_key_value_heads, head_dim)} if cfg.qk_layernorm else {}


IN_SEQUENCE = Decoder(
    layout=LAYOUT,
    names={"rms_norm_eps": "layer_norm_eps"},
    reads=("partial_rotary_factor", "use_parallel_residual", "qk_layernorm"),
    norm=layer_norm,
    norm_bias=True,
    vectors=_norms_of_heads,
    biased=lambda cfg: "qkv" if cfg.use_qkv_bias else "",
)
PARALLEL = replace(IN_SEQUENCE, norms=("mixer_norm",), parallel=lambda cfg: True)
FAMILY = DecoderFamily("stablelm", {"stablelm": lambda config: PARALLEL if config.get("use_parallel_residual") else IN_SEQUENCE})
build, layout = FAMILY.build, FAMILY.layout
