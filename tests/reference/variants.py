"""A tiny random model of every variant of Baichuan and RWKV, as the files that it is published as."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from adapters import Ablation, BlockModel, load
from tests.reference import baichuan
from tests.reference.rwkv_checkpoints import VERSIONS, random_checkpoint

RWKV = tuple(f"rwkv-{version}" for version in VERSIONS)
BAICHUAN = tuple(baichuan.KINDS)
VARIANTS = (*BAICHUAN, *RWKV)
BLOCKS, HEADS, VOCAB = 3, 3, 256
# where a family's files hold the output projections of a block's mixer and ffn
OUTPUTS = {
    "rwkv": ("blocks.{i}.att.output.weight", "blocks.{i}.ffn.value.weight"),
    "baichuan": ("model.layers.{i}.self_attn.o_proj.weight", "model.layers.{i}.mlp.down_proj.weight"),
}


def tensors(variant: str) -> dict[str, Tensor]:
    if variant in BAICHUAN:
        return baichuan.tiny(**config(variant))[1]
    return random_checkpoint(variant.removeprefix("rwkv-"), blocks=BLOCKS, heads=HEADS, head_size=8, vocab=VOCAB)


def config(variant: str) -> dict:
    """Of Baichuan's config.json, beside what `baichuan.tiny` says."""
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_attention_heads": HEADS, "num_hidden_layers": BLOCKS, "vocab_size": VOCAB}
    return baichuan.KINDS[variant] | sizes


def save(variant: str, folder: Path, **more: object) -> Path:
    """Writes the files; returns what `load` takes. `more` goes into Baichuan's config.json."""
    if variant in BAICHUAN:
        baichuan.save(folder, *baichuan.tiny(**config(variant) | more))
        return folder
    torch.save(tensors(variant), folder / f"{variant}.pth")
    return folder / f"{variant}.pth"


@cache
@torch.inference_mode(False)  # a test that runs in that mode must not leave its tensors to others
def model(variant: str, dtype: str = "float32") -> BlockModel:
    with tempfile.TemporaryDirectory() as folder:
        return load(save(variant, Path(folder)), device="cpu", dtype=dtype)


def without(variant: str, ablation: Ablation) -> dict[str, Tensor]:
    """The tensors of a model in which `ablation` gives nothing: output projections, or their columns of a head, are zero.

    RWKV-7's first block still makes the values that later blocks read.
    """
    found, (mixer, ffn) = tensors(variant), OUTPUTS[variant.split("-")[0].rstrip("2")]
    for i in ablation.blocks | ablation.mixers:
        found[mixer.format(i=i)].zero_()
    for i in ablation.blocks | ablation.ffns:
        found[ffn.format(i=i)].zero_()
    for i, head in ablation.heads:
        found[mixer.format(i=i)].unflatten(1, (HEADS, -1))[:, head].zero_()
    return found
