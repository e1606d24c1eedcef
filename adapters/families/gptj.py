"""GPT-J: one LayerNorm for both parts, which are parallel; the first channels of a head rotate, in pairs of neighbours."""

from __future__ import annotations

import math

from adapters.checkpoints.layout import Layout
from adapters.errors import StrataError
from adapters.families.gpt2 import NAMES
from adapters.families.table import Decoder, DecoderFamily, modules
from adapters.norms import layer_norm

_BLOCK = "transformer.h.{i}."
LAYOUT = Layout(
    model=modules({"embed": "transformer.wte", "norm": "transformer.ln_f", "unembed": "lm_head"}),
    block=modules(
        {
            "mixer_norm": _BLOCK + "ln_1",
            **{role: f"{_BLOCK}attn.{role}_proj" for role in "qkv"},
            "o": _BLOCK + "attn.out_proj",
            "up": _BLOCK + "mlp.fc_in",
            "down": _BLOCK + "mlp.fc_out",
        }
    ),
    ignored=(".attn.bias", ".attn.masked_bias"),
)


def _fill(config: dict) -> dict:
    """The width of the ffn, and the rotation, which config.json calls otherwise than others and whose base is in the code alone."""
    d, heads, rotated = (config.get(key, default) for key, default in (("n_embd", 4096), ("n_head", 16), ("rotary_dim", 64)))
    if not all(type(n) is int and n > 0 for n in (d, heads)):
        return {}  # refused with all other sizes
    head_dim = d // heads
    if type(rotated) is not int or rotated % 2 or not 0 < rotated <= head_dim:
        raise StrataError(f"config.json says rotary_dim {rotated!r}: expected an even number of the {head_dim} channels of a head")
    share = rotated / head_dim
    share = share if int(head_dim * share) == rotated else math.nextafter(share, 1)
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": share}
    return {"rope_parameters": rope} | ({} if config.get("n_inner") else {"n_inner": 4 * d})


GPTJ = Decoder(
    layout=LAYOUT,
    names=NAMES,
    reads=("rotary_dim", "partial_rotary_factor"),
    fill=_fill,
    norm=layer_norm,
    norms=("mixer_norm",),
    norm_bias=True,
    unembed_bias=True,
    gated=False,
    biased=lambda cfg: ("up", "down"),
    parallel=lambda cfg: True,
    neighbours=True,
    limit=lambda cfg: cfg.n_positions,  # rows of a table of sines
)
FAMILY = DecoderFamily("gptj", {"gptj": GPTJ})
build, layout = FAMILY.build, FAMILY.layout
