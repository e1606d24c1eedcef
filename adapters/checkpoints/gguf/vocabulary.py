"""The tokens in the header of a GGUF file. Defaults are those of llama.cpp (src/llama-vocab.cpp)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from adapters.checkpoints.gguf.header import Header
from adapters.checkpoints.gguf.tables import NORMAL, TOKENIZER
from adapters.errors import StrataError, one_line

KEY = f"{TOKENIZER}ggml."
LLAMA_IDS = {"bos": 1, "eos": 2, "unknown": 0}  # of SentencePiece vocabularies where the header does not say them
FIX = "put the model's own tokenizer.json and tokenizer_config.json beside it"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    header: Header
    tokens: list[str]
    types: list[int]

    @property
    def bytewise(self) -> bool:
        return self.header.value(f"{KEY}model", str) == "gpt2"

    def special(self, name: str) -> int | None:
        """The id of a special token, None when there is none."""
        default = -1 if self.bytewise else LLAMA_IDS.get(name, -1)
        found = self.header.value(f"{KEY}{name}_token_id", int, default)
        return next((i for i in (found, default) if 0 <= i < len(self.tokens)), None)

    def token(self, name: str) -> str | None:
        i = self.special(name)
        return None if i is None else self.tokens[i]

    def adds(self, name: str, default: bool) -> bool:
        """Whether each text gets this token. Raises StrataError when there is no such token."""
        adds = self.header.value(f"{KEY}add_{name}_token", bool, default)
        if adds and self.special(name) is None:
            raise StrataError(f"{self.header.path} adds a token to each text, but has no {KEY}{name}_token_id: {FIX}")
        return adds


def read_vocabulary(header: Header) -> Vocabulary:
    """The tokens of the header, when there is one for each row of the embedding."""
    tokens = header.value(f"{KEY}tokens", list)
    if not all(type(token) is str for token in tokens):
        raise StrataError(f"{header.path}: {KEY}tokens holds more than texts: the file is damaged; download it again")
    tokens = [token or f"[EMPTY_{i}]" for i, token in enumerate(tokens)]
    types = header.value(f"{KEY}token_type", list, [NORMAL] * len(tokens))
    rows = header.tensors["token_embd.weight"].shape[0]
    if not len(types) == len(set(tokens)) == len(tokens) == rows:
        raise StrataError(
            f"{header.path}: {len(tokens)} tokens, {len(set(tokens))} of them different, and {len(types)} types for the {rows} rows of its "
            "embedding: the file is damaged; download it again"
        )
    return Vocabulary(header, tokens, types)


def require_same(words: Vocabulary, path: Path) -> None:
    """Raises StrataError when the tokenizer at `path` is another model's."""
    from tokenizers import Tokenizer

    try:
        ids = Tokenizer.from_file(str(path)).get_vocab()
    except Exception as error:  # the Rust backend raises bare Exception
        raise StrataError(f"cannot read the tokenizer {path}: {one_line(error)}; replace the file by the published one") from error
    theirs = {i: token for token, i in ids.items()}
    ours = enumerate(zip(words.tokens, words.types, strict=True))
    wrong = [i for i, (token, kind) in ours if kind == NORMAL and theirs.get(i, token) != token]
    if wrong or max(theirs, default=0) >= len(words.tokens):
        where = f"its token {wrong[0]} is {theirs[wrong[0]]!r}, not {words.tokens[wrong[0]]!r}" if wrong else f"it has {len(theirs)} tokens"
        raise StrataError(
            f"{path} is not the tokenizer of {words.header.path.name} beside it ({where}): move one of them to another folder"
        )
