"""A GGUF file as the folder that it is converted into: special tokens are those of its header."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

from adapters import load
from adapters.catalogue import converted_gguf

D, FFN, VOCAB, BLOCKS = 32, 48, 262, 2
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<pad>")
NORMS = ("attn_norm", "ffn_norm")
MATRICES = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (D, D)) | {
    "ffn_gate": (FFN, D),
    "ffn_up": (FFN, D),
    "ffn_down": (D, FFN),
}


def write_gguf(path: Path, bos: int, eos: int) -> Path:
    """A tiny Llama with tied embeddings, whose tokens are four special ones, the bytes and two pairs."""
    writer, rng = gguf.GGUFWriter(path, "llama"), np.random.default_rng(0)
    for add, value in (
        (writer.add_context_length, 64),
        (writer.add_embedding_length, D),
        (writer.add_block_count, BLOCKS),
        (writer.add_feed_forward_length, FFN),
        (writer.add_head_count, 2),
        (writer.add_head_count_kv, 2),
        (writer.add_layer_norm_rms_eps, 1e-5),
        (writer.add_rope_dimension_count, D // 2),
        (writer.add_vocab_size, VOCAB),
        (writer.add_tokenizer_model, "gpt2"),
        (writer.add_token_list, [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), "ab", "cd"]),
        (writer.add_token_types, [3] * 4 + [1] * 258),  # control, normal
        (writer.add_token_merges, ["a b", "c d"]),
        (writer.add_bos_token_id, bos),
        (writer.add_eos_token_id, eos),
    ):
        add(value)
    shapes = {"token_embd": (VOCAB, D), "output_norm": (D,)}
    for i in range(BLOCKS):
        shapes |= {f"blk.{i}.{name}": shape for name, shape in (dict.fromkeys(NORMS, (D,)) | MATRICES).items()}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", rng.normal(1 if len(shape) == 1 else 0, 0.3, shape).astype(np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    return path


@pytest.mark.parametrize(("bos", "eos"), [(1, 2), (0, 0)])
def test_special_tokens_are_those_of_the_header(bos: int, eos: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path / "cache"))
    folder = converted_gguf(write_gguf(tmp_path / "tiny.gguf", bos, eos))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (bos, eos)
    for name in ("config.json", "generation_config.json"):
        said = json.loads((folder / name).read_text())
        assert (said["bos_token_id"], said["eos_token_id"]) == (bos, eos)
    assert load(tmp_path / "tiny.gguf", device="cpu").spec.n_params > 0
