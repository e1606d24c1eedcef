"""Tiny models as the project loads them, beside the Hugging Face model that they come from."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedModel

from adapters import BlockModel, load
from adapters.specs import BlockSpec, ModelSpec
from tests.reference.hf import tiny


@cache
def pair(model_type: str = "llama", dtype: str = "float32", **config: object) -> tuple[BlockModel, PreTrainedModel]:
    reference = tiny(model_type, **config)
    with tempfile.TemporaryDirectory() as folder:
        reference.save_pretrained(folder)
        return load(folder, dtype=dtype, device="cpu"), reference


def save_reader(folder: Path, *, bos: bool = True, **config: object) -> PreTrainedModel:
    """Writes a tiny model that reads text: tokens are bytes, but for 257, which is `Li`; 256 stands in front, if asked for."""
    reference = tiny(**{"vocab_size": 258, "max_position_embeddings": 128, "bos_token_id": 256} | config)
    reference.save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet(), key=lambda char: byte_of()[char])
    tokenizer = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate([*alphabet, "<s>", "Li"])}, merges=[("L", "i")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 256)])
    tokenizer.save(str(folder / "tokenizer.json"))
    return reference


def byte_of() -> dict[str, int]:
    """The byte that each character of the byte-level alphabet of GPT-2 stands for."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in plain)}


def spec(n_blocks: int, n_heads: int | None = 4, d_model: int = 8) -> ModelSpec:
    """The shape of a model that nobody runs."""
    block = BlockSpec(n_heads=n_heads, n_kv_heads=n_heads, head_dim=2, d_ffn=32, n_params=5, flops_per_token=10, mixer_flops=4)
    return ModelSpec(
        family="none", variant="none", name="shape", d_model=d_model, vocab_size=50, max_len=64, blocks=(block,) * n_blocks, n_params=500
    )
