"""Checkpoints of RWKV on disk: BlinkDL's native keys of every version, and the Hugging Face keys of versions 4 and 7.

Roles are the same in all of them. Vectors that are saved as (1, 1, d) are (d,) here.
"""

from __future__ import annotations

from dataclasses import dataclass

from adapters.checkpoints.layout import Layout, Slot, Store
from adapters.errors import StrataError

VERSIONS = ("4", "5.0", "5.1", "5.2", "6", "7")
V_FIRST = ("7",)  # versions whose blocks mix in the values of the first one
VALUE_RESIDUAL = ("v0", "v1", "v2")  # roles with which they do; the first block has none
Shape = tuple[int, ...]

REFUSED = {  # part of a key -> what it is
    "ffn.s_emb": "DeepEmbed (RWKV-7a, 7b), whose ffn depends on the token",
    "time_maa_rkvw": "a variant of RWKV-6 (x060a, b, c)",
    "att.gate_w1": "a variant of RWKV-6 (x060a, b, c)",
    "tiny_": "tiny attention",
    "head_q.": "an attention head over the context (head_q, head_k)",
    "head_k.": "an attention head over the context (head_q, head_k)",
    "pos_emb": "position embeddings",
    "ffnPre": "an ffn in the place of the first time-mix",
    "attention.gate": "RWKV-5 or 6 in the Hugging Face layout",
    "attn.x_x": "RWKV-7 in the first layout of flash-linear-attention",
}
MIXES = {"4": "kvr", "5.0": "kvr", "5.1": "kvrg", "5.2": "kvrg", "6": "xwkvrg", "7": "rwkvag"}  # token-shift weights of the time-mix


@dataclass(frozen=True, slots=True)
class Format:
    """A checkpoint format: the key by which it is known, and its tables by version."""

    name: str
    marker: str
    layouts: dict[str, Layout]


def _norm(role: str, key: str) -> dict[str, Slot]:
    return {role: Slot(key + ".weight"), f"{role}_bias": Slot(key + ".bias")}


def _model(embed: str, embed_norm: str, norm: str, head: str = "head.weight") -> dict[str, Slot]:
    return {"embed": Slot(embed), **_norm("embed_norm", embed_norm), **_norm("norm", norm), "unembed": Slot(head)}


def _native(version: str) -> Layout:
    """BlinkDL's keys; https://github.com/BlinkDL/RWKV-LM and the `rwkv` package, Apache-2.0."""
    block, att, ffn = "blocks.{i}.", "blocks.{i}.att.", "blocks.{i}.ffn."
    mix = {"6": "time_maa_", "7": "x_"}.get(version, "time_mix_")
    matrices = {"r": "receptance", "k": "key", "v": "value", "g": "gate", "o": "output"}
    slots = {
        **_norm("mixer_norm", block + "ln1"),
        **_norm("ffn_norm", block + "ln2"),
        **_norm("head_norm", att + "ln_x"),
        **{role: Slot(f"{att}{name}.weight") for role, name in matrices.items()},
        **{f"mix_{c}": Slot(f"{att}{mix}{c}", lead=2) for c in MIXES[version]},
        "decay": Slot(att + "time_decay", lead=2 if version == "6" else 0, exact=True),
        "log_bonus": Slot(att + "time_first", exact=True),
        "bonus": Slot(att + "time_faaaa", exact=True),
        **{role: Slot(att + "time_" + key) for role, key in _FINCH.items()},
        **{role: Slot(att + role, lead=2, exact=role == "w0") for role in ("w0", "a0", "v0", "k_k", "k_a")},
        **{role: Slot(att + role) for role in (*_GOOSE_LOW_RANK, "r_k")},
        "up": Slot(ffn + "key.weight"),
        "down": Slot(ffn + "value.weight"),
        "receptance": Slot(ffn + "receptance.weight"),
        **{f"ffn_mix_{c}": Slot(f"{ffn}{mix}{c}", lead=2) for c in "kr"},
    }
    # ln0 of later blocks, and the value residual of the first, are in some files and used by no implementation
    unused = (".ln0.weight", ".ln0.bias", *(f"blocks.0.att.{role}" for role in VALUE_RESIDUAL))
    return Layout(model=_model("emb.weight", "blocks.0.ln0", "ln_out"), block=slots, ignored=unused, formats=("safetensors", "pth"))


_FINCH = {"mix_w1": "maa_w1", "mix_w2": "maa_w2", "decay_w1": "decay_w1", "decay_w2": "decay_w2"}
_GOOSE_LOW_RANK = [f"{c}{n}" for c in "wavg" for n in "12"]


def _hugging_face_4() -> Layout:
    """RwkvForCausalLM of transformers."""
    block = "rwkv.blocks.{i}."
    att, ffn = block + "attention.", block + "feed_forward."
    names = {"k": "key", "v": "value", "r": "receptance", "o": "output"}
    slots = {
        **_norm("mixer_norm", block + "ln1"),
        **_norm("ffn_norm", block + "ln2"),
        **{role: Slot(f"{att}{name}.weight") for role, name in names.items()},
        **{f"mix_{c}": Slot(f"{att}time_mix_{names[c]}", lead=2) for c in "kvr"},
        "decay": Slot(att + "time_decay", exact=True),
        "log_bonus": Slot(att + "time_first", exact=True),
        "up": Slot(ffn + "key.weight"),
        "down": Slot(ffn + "value.weight"),
        "receptance": Slot(ffn + "receptance.weight"),
        **{f"ffn_mix_{c}": Slot(f"{ffn}time_mix_{names[c]}", lead=2) for c in "kr"},
    }
    return Layout(model=_model("rwkv.embeddings.weight", "rwkv.blocks.0.pre_ln", "rwkv.ln_out"), block=slots)


def _flash_linear_attention_7() -> Layout:
    """RWKV7ForCausalLM of flash-linear-attention: low-rank matrices are modules, and therefore transposed."""
    block = "model.layers.{i}."
    att, ffn = block + "attn.", block + "ffn."
    tensors = {"0": "2.bias", "1": "0.weight", "2": "2.weight"}
    slots = {
        **_norm("mixer_norm", block + "attn_norm"),
        **_norm("ffn_norm", block + "ffn_norm"),
        **_norm("head_norm", att + "g_norm"),
        **{role: Slot(f"{att}{role}_proj.weight") for role in "rkvo"},
        **{f"mix_{c}": Slot(f"{att}x_{c}", lead=2) for c in MIXES["7"]},
        **{role: Slot(att + role) for role in ("k_k", "k_a", "r_k")},
        **{
            role: Slot(f"{att}{role[0]}_lora.lora.{tensors[role[1]]}", transposed=role[1] != "0", exact=role == "w0")
            for role in ("w0", "a0", "v0", *_GOOSE_LOW_RANK)
        },
        "up": Slot(ffn + "key.weight"),
        "down": Slot(ffn + "value.weight"),
        "ffn_mix_k": Slot(ffn + "x_k"),
    }
    return Layout(model=_model("model.embeddings.weight", "model.layers.0.pre_norm", "model.norm", "lm_head.weight"), block=slots)


FLASH = _flash_linear_attention_7()
FORMATS = (
    Format("native", "blocks.0.att.key.weight", {version: _native(version) for version in VERSIONS}),
    Format("Hugging Face", "rwkv.blocks.0.attention.key.weight", {"4": _hugging_face_4()}),
    Format("flash-linear-attention", "model.layers.0.attn.r_proj.weight", {"7": FLASH}),
)


def detect(store: Store) -> tuple[str, Layout]:
    """Version and layout of a checkpoint, from its keys. Raises StrataError, by name, on variants that are not supported."""
    for part, what in REFUSED.items():
        if key := next((key for key in store.shapes if part in key), None):
            raise StrataError(f"{store.path} holds {what} ({key}), which is not supported: plain RWKV {', '.join(VERSIONS)} are")
    found = next((f for f in FORMATS if f.marker in store.shapes), None)
    if found is None:
        raise StrataError(f"{store.path} is not an RWKV checkpoint: expected one of the keys {', '.join(f.marker for f in FORMATS)}")
    version = _native_version(store.shapes) if found.name == "native" else next(iter(found.layouts))
    return version, found.layouts[version]


def _native_version(shapes: dict[str, Shape]) -> str:
    """The same rules as the `rwkv` package's."""
    keys = [key for key in shapes if key.startswith("blocks.0.att.")]
    if "blocks.0.att.r_k" in keys:
        return "7"
    if any("time_maa" in key for key in keys):
        return "6"
    if "blocks.0.att.ln_x.weight" not in keys:
        return "4"
    if "blocks.0.att.gate.weight" not in keys:
        return "5.0"
    decay = shapes.get("blocks.0.att.time_decay", ())
    return "5.2" if len(decay) > 1 and decay[1] > 1 else "5.1"
