"""A small model with a tokenizer, as files: what a user brings."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.reference.hf import tiny


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, prose: Path) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train([str(prose)], trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False))
    tiny("llama", vocab_size=400, max_position_embeddings=256).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
