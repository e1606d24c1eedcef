"""Text to token ids, with the byte at which each token ends, so that models with different vocabularies can be compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from adapters.checkpoints.files import read_json
from adapters.errors import StrataError, one_line


class Encoding(NamedTuple):
    ids: list[int]
    byte_ends: list[int]  # UTF-8 bytes of the text covered once this token is read; never decreases, ends at len(bytes)


class Tokenizer(Protocol):
    bos_id: int | None  # the token that this model expects in front of a text; None: it expects none
    prefix_id: int | None  # a token to stand for an empty context: BOS, which need not be expected, or end of text

    def encode(self, text: str) -> Encoding:
        """Plain text without special tokens."""
        ...

    def decode(self, ids: list[int]) -> str: ...


class JsonTokenizer:
    """Hugging Face `tokenizer.json`."""

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer as Backend  # only where text is read

        self._backend = Backend.from_file(str(path))
        self._backend.no_truncation()
        self._backend.no_padding()
        specials = self._backend.encode("", add_special_tokens=True).ids
        self.bos_id = specials[0] if specials else None
        self.prefix_id = self._prefix(path)

    def _prefix(self, path: Path) -> int | None:
        """BOS of tokenizer_config.json, else of config.json; else the end of a text of either."""
        tokens, ids = (
            read_json(file) if file.is_file() else {} for file in (path.with_name("tokenizer_config.json"), path.with_name("config.json"))
        )
        for name in ("bos_token", "eos_token"):
            token = tokens.get(name)
            found = self._backend.token_to_id(token["content"] if isinstance(token, dict) else token) if token else ids.get(f"{name}_id")
            if found is not None:
                return found[0] if isinstance(found, list) else found
        return self.bos_id

    def encode(self, text: str) -> Encoding:
        encoding = self._backend.encode(text, add_special_tokens=False)
        bytes_before = np.cumsum([0, *(len(char.encode()) for char in text)])  # of each character
        char_ends = np.maximum.accumulate([end for _, end in encoding.offsets] or [0])[: len(encoding.ids)]
        ends = bytes_before[char_ends].tolist()
        if ends:
            ends[-1] = int(bytes_before[-1])
        return Encoding(encoding.ids, ends)

    def decode(self, ids: list[int]) -> str:
        return self._backend.decode(ids)


class SentencePieceTokenizer:
    """Google's sentencepiece `tokenizer.model`, without the code that a checkpoint may bring for it."""

    def __init__(self, path: Path) -> None:
        from sentencepiece import SentencePieceProcessor  # only where text is read

        self._backend = SentencePieceProcessor(model_file=str(path))
        config = path.with_name("tokenizer_config.json")
        adds_bos = config.is_file() and read_json(config).get("add_bos_token", False)
        self.bos_id = self._backend.bos_id() if adds_bos else None
        self.prefix_id = next((i for i in (self._backend.bos_id(), self._backend.eos_id()) if i >= 0), None)

    def encode(self, text: str) -> Encoding:
        data = text.encode()
        encoding = self._backend.encode(data, out_type="offset_mapping")
        ends = np.maximum.accumulate([end for _, end in encoding["offsets"]] or [0])[: len(encoding["ids"])].tolist()
        return Encoding(encoding["ids"], [*ends[:-1], len(data)] if ends else [])  # it may drop spaces at the end

    def decode(self, ids: list[int]) -> str:
        return self._backend.decode(ids)


FILES: dict[str, Callable[[Path], Tokenizer]] = {"tokenizer.json": JsonTokenizer, "tokenizer.model": SentencePieceTokenizer}


def find_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer of a model folder, None when there is none."""
    for name, make in FILES.items():
        path = folder / name
        if path.is_file():
            try:
                return make(path)
            except ImportError as error:
                raise StrataError(f"{path} needs the package {error.name}: pip install {error.name}") from error
            except Exception as error:  # the Rust and C++ backends raise bare Exception and more
                fix = "replace the file by the published one"
                raise StrataError(f"cannot read the tokenizer {path}: {one_line(error)}; {fix}") from error
    return None
