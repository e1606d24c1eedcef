"""StableLM: the Llama block with LayerNorm and partial rotation; its parts may be parallel under one norm."""

from __future__ import annotations

from dataclasses import replace

from adapters.families import llama
from adapters.families.table import Decoder, DecoderFamily, modules
from adapters.norms import layer_norm

LAYOUT = replace(
    llama.LAYOUT,
    model=modules({"embed": "model.embed_tokens", "norm": "model.norm", "unembed": "lm_head"}),
)
IN_SEQUENCE = Decoder(
    layout=LAYOUT,
    names={"rms_norm_eps": "layer_norm_eps"},
    reads=("partial_rotary_factor", "use_parallel_residual"),
    norm=layer_norm,
    norm_bias=True,
    biased=lambda cfg: "qkv" if cfg.use_qkv_bias else "",
)
PARALLEL = replace(IN_SEQUENCE, norms=("mixer_norm",), parallel=lambda cfg: True)
FAMILY = DecoderFamily("stablelm", {"stablelm": lambda config: PARALLEL if config.get("use_parallel_residual") else IN_SEQUENCE})
build, layout = FAMILY.build, FAMILY.layout
