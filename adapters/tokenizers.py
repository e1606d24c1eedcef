"""Text to token ids, with the byte at which each token ends, so that models with different vocabularies can be compared."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from adapters.errors import StrataError


class Encoding(NamedTuple):
    ids: list[int]
    byte_ends: list[int]  # UTF-8 bytes of the text covered once this token is read; never decreases, ends at len(bytes)


class Tokenizer(Protocol):
    bos_id: int | None  # the token that this model expects in front of a text; None: it expects none

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


def find_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer of a model folder, None when there is none."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    try:
        return JsonTokenizer(path)
    except Exception as error:  # the Rust backend raises bare Exception
        raise StrataError(f"cannot read the tokenizer {path}: {error}; replace the file by the published one") from error
