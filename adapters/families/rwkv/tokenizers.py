"""Tokenizers of RWKV models: the World vocabulary, bytes, and GPT-NeoX's `tokenizer.json` for models trained on the Pile.

In front of a text World models expect token 0; models of bytes and of the Pile expect nothing, and their first token is not scored.
"""

from __future__ import annotations

import ast
import importlib.util
from functools import cached_property
from pathlib import Path

from adapters.embedded import mismatch
from adapters.errors import StrataError
from adapters.tokenizers import Encoding, Tokenizer, read_tokenizer
from adapters.tokenizers import find_tokenizer as find_in_folder

WORLD_SIZE, BYTES_SIZE = 65536, 256
PILE_FILE = "20B_tokenizer.json"  # GPT-NeoX's, as it is named beside native checkpoints


class ByteTokenizer:
    """A token is a byte of UTF-8. There is no token in front of a text."""

    bos_id: int | None = None
    prefix_id: int | None = None
    eos_id: int | None = None
    top = size = BYTES_SIZE

    def encode(self, text: str) -> Encoding:
        data = text.encode()
        return Encoding(list(data), list(range(1, len(data) + 1)))

    def decode(self, ids: list[int], special: bool = False) -> str:
        return bytes(ids).decode(errors="replace")


class WorldTokenizer:
    """Longest match over the bytes of the text, in the vocabulary that the `rwkv` package carries (read when first used).

    Token 0 ends a text and stands in front of the next in training and in the official evaluations; it has no bytes.
    """

    bos_id: int | None = 0
    prefix_id: int | None = 0
    eos_id: int | None = 0
    top = size = 65530  # the embedding has six rows more

    def encode(self, text: str) -> Encoding:
        tokens, lengths = self._index
        data, at = text.encode(), 0
        ids, ends = [], []
        while at < len(data):
            sizes = (*lengths.get(data[at : at + 2], ()), 1)
            token = next(piece for n in sizes if (piece := data[at : at + n]) in tokens)
            at += len(token)
            ids.append(tokens[token])
            ends.append(at)
        return Encoding(ids, ends)

    def decode(self, ids: list[int], special: bool = False) -> str:
        return b"".join(self._bytes.get(i, b"") for i in ids).decode(errors="replace")

    @cached_property
    def _bytes(self) -> dict[int, bytes]:
        """Lines of the file are `id literal length`; the literal is a str or bytes, and is parsed, not run."""
        table = {}
        for line in _vocabulary_file().read_text(encoding="utf-8").splitlines():
            index, rest = line.split(" ", 1)
            literal = ast.literal_eval(rest.rsplit(" ", 1)[0].strip())
            table[int(index)] = literal.encode() if isinstance(literal, str) else literal
        return table

    @cached_property
    def _index(self) -> tuple[dict[bytes, int], dict[bytes, list[int]]]:
        """Ids by bytes, and the lengths of longer tokens by their first two bytes, longest first. Every byte is a token."""
        tokens = {token: i for i, token in self._bytes.items()}
        lengths: dict[bytes, set[int]] = {}
        for token in tokens:
            if len(token) > 1:
                lengths.setdefault(token[:2], set()).add(len(token))
        return tokens, {start: sorted(found, reverse=True) for start, found in lengths.items()}


def _vocabulary_file() -> Path:
    spec = importlib.util.find_spec("rwkv")  # found, not imported: importing it sets options of torch
    path = Path(next(iter((spec and spec.submodule_search_locations) or ["."]))) / "rwkv_vocab_v20230424.txt"
    if not path.is_file():
        raise StrataError("the World vocabulary is not here: it comes with the rwkv package (`pip install rwkv`)")
    return path


def find_tokenizer(folder: Path, vocab_size: int) -> Tokenizer | None:
    """That in the folder of the model when its size fits, else by the size of its vocabulary; None when nothing tells.

    A tokenizer of another size that lies there is given back when there is nothing better, to be refused.
    """
    found = find_in_folder(folder)
    by_size: dict[int, type[Tokenizer]] = {WORLD_SIZE: WorldTokenizer, BYTES_SIZE: ByteTokenizer}
    if vocab_size in by_size and (found is None or mismatch(found, vocab_size)):
        return by_size[vocab_size]()
    return read_tokenizer(folder / PILE_FILE) if found is None and (folder / PILE_FILE).is_file() else found
