"""A GGUF file as the folder that it is converted into: special tokens are those of its header."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from adapters import load
from adapters.catalogue import converted_gguf
from tests.adapters.checkpoints.gguf_files import save, tiny


@pytest.mark.parametrize(("bos", "eos"), [(1, 2), (0, 0)])
def test_special_tokens_are_those_of_the_header(bos: int, eos: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path / "cache"))
    ids = {"tokenizer.ggml.bos_token_id": bos, "tokenizer.ggml.eos_token_id": eos}
    folder = converted_gguf(save(tmp_path / "tiny.gguf", tiny(), "llama", ids))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (bos, eos)
    for name in ("config.json", "generation_config.json"):
        said = json.loads((folder / name).read_text())
        assert (said["bos_token_id"], said["eos_token_id"]) == (bos, eos)
    assert load(tmp_path / "tiny.gguf", device="cpu").spec.n_params > 0
