"""A small model with a tokenizer, as files: what a user brings; and a browser."""

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.reference.hf import tiny


def save_tiny(folder: Path, prose: Path, model_type: str = "llama", **config: object) -> Path:
    """A model of transformers that reads `prose`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train([str(prose)], trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False))
    tiny(model_type, vocab_size=400, max_position_embeddings=256, **config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, prose: Path) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny-llama", prose)


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not (path and find_spec("playwright")) and not os.environ.get("CI"):
        pytest.skip("needs playwright and Chromium (on Debian and Ubuntu: apt install chromium)")
    from playwright.sync_api import sync_playwright

    assert path, "Chromium is missing, which .ci/run installs"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"] * (os.geteuid() == 0))
        yield browser
        browser.close()
