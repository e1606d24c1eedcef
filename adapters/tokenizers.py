"""Text to token ids, with the byte at which each token ends, so that models with different vocabularies can be compared.

Special tokens that a text spells out (`<s>`, `<|endoftext|>`) are text, for every kind of tokenizer alike: a corpus that
speaks of them does not end there. Added tokens that are not special are words, and are read as such.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from adapters.errors import StrataError, is_error, one_line
from adapters.token_notes import TokenNotes

SPECIAL_TOKENS = "text"  # what spelled-out ones are read as; in every manifest


class Encoding(NamedTuple):
    ids: list[int]
    byte_ends: list[int]  # UTF-8 bytes of the text up to the end of this token; never decreases, ends at len(bytes)


class Tokenizer(Protocol):
    bos_id: int | None  # the token that this model expects in front of a text; None: it expects none
    prefix_id: int | None  # a token to stand for an empty context: BOS, which need not be expected, or end of text
    eos_id: int | None  # the token that ends a text; None: nothing says so
    top: int  # above all ids of the vocabulary itself, without special and added tokens
    size: int  # tokens, special and added ones counted

    def encode(self, text: str) -> Encoding:
        """Plain text without special tokens. Raises StrataError, or what a backend raises, on a text that it cannot read."""
        ...

    def decode(self, ids: list[int], special: bool = False) -> str:
        """The text of tokens; with `special`, that of special ones too, where they have one."""
        ...


class JsonTokenizer:
    """Hugging Face `tokenizer.json`.

    BOS is what its template puts in front of a text; what it puts behind is none. Only Llama's tokenizer class obeys
    `add_bos_token` of tokenizer_config.json, whatever the template says (transformers 4, LlamaTokenizerFast; files of
    transformers 5 agree, since it writes no `add_bos_token`). Raises StrataError when two tokens stand in front.
    """

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer as Backend  # only where text is read

        self._backend = backend = Backend.from_file(str(path))
        notes = TokenNotes.beside(path)
        front = in_front(backend.post_processor)
        if notes.of_llama and notes.adds_bos is not None:
            bos = notes.bos(backend.token_to_id, backend.token_to_id("<s>")) if notes.adds_bos else None
            front = [] if bos is None else [bos]
        if len(front) > 1:
            raise StrataError(f"it puts {len(front)} tokens in front of a text (ids {', '.join(map(str, front))}), expected one or none")
        self.bos_id = front[0] if front else None
        self.prefix_id = notes.prefix(backend.token_to_id, self.bos_id)
        self.eos_id = notes.eos(backend.token_to_id)
        self._leave_as_it_is(backend)
        added = backend.get_added_tokens_decoder()
        own = backend.get_vocab(with_added_tokens=False)
        self.top = 1 + max((i for i in own.values() if i not in added), default=-1)
        self._unread = notes.unread(lambda token: backend.token_to_id(token) is not None)
        self.size = len({*own.values(), *added}) + len(notes.added.keys() - backend.get_vocab())

    @staticmethod
    def _leave_as_it_is(backend: Any) -> None:
        """Switches off what a file may ask for and a measurement must not have."""
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True  # as text
        backend.post_processor = None  # nothing is put around a text, and offsets are not trimmed
        if getattr(backend.model, "dropout", None):
            backend.model.dropout = None  # merges left out at random, for training

    def encode(self, text: str) -> Encoding:
        require_read(text, self._unread)
        encoding = self._backend.encode(text, add_special_tokens=False)
        bytes_before = np.cumsum([0, *(len(char.encode()) for char in text)])  # of each character
        char_ends = np.maximum.accumulate([end for _, end in encoding.offsets] or [0])[: len(encoding.ids)]
        ends = bytes_before[char_ends].tolist()
        if ends:
            ends[-1] = int(bytes_before[-1])
        return Encoding(encoding.ids, ends)

    def decode(self, ids: list[int], special: bool = False) -> str:
        return self._backend.decode(ids, skip_special_tokens=not special)


class SentencePieceTokenizer:
    """Google's sentencepiece `tokenizer.model`, without the code that a checkpoint may bring for it.

    BOS stands in front unless tokenizer_config.json says `add_bos_token: false` or `bos_token: null`: so do Meta's own code,
    LlamaTokenizer of transformers 4 (that of 5 says so too, and adds none) and Baichuan's tokenization code, whose published files
    say `false`. Raises StrataError when the token that is named is not there.
    """

    def __init__(self, path: Path) -> None:
        from sentencepiece import SentencePieceProcessor  # only where text is read

        self._backend = backend = SentencePieceProcessor(model_file=str(path))
        notes = TokenNotes.beside(path)
        bos, eos = (i if i >= 0 else None for i in (backend.bos_id(), backend.eos_id()))
        self.bos_id = None if notes.adds_bos is False else notes.bos(self._find, bos)
        said = (notes.id_of(name, self._find) if name in notes.tokens else i for name, i in (("bos_token", bos), ("eos_token", eos)))
        self.prefix_id = next((i for i in said if i is not None), None)
        self.eos_id = notes.eos(self._find) if "eos_token" in notes.tokens else eos
        ids = list(range(backend.get_piece_size()))
        special = np.array(backend.is_control(ids)) | np.array(backend.is_unused(ids))
        self.top = 1 + int(np.flatnonzero(~special).max(initial=-1))
        self.size = len(ids) + sum(self._find(token) is None for token in notes.added)
        self._unread = notes.unread(lambda token: self._find(token) is not None)

    def _find(self, token: str) -> int | None:
        found = self._backend.piece_to_id(token)  # of the unknown token, for one that it does not know
        return found if self._backend.id_to_piece(found) == token else None

    def encode(self, text: str) -> Encoding:
        require_read(text, self._unread)
        data = text.encode()
        encoding = self._backend.encode(data, out_type="offset_mapping")
        # Of the pieces of a character only the last has an offset: all end where it does, as in a tokenizer.json.
        ends = [end if end > start else len(data) for start, end in encoding["offsets"]]
        ends = np.minimum.accumulate(ends[::-1])[::-1].tolist() if ends else []
        return Encoding(encoding["ids"], [*ends[:-1], len(data)] if ends else [])  # it may drop spaces at the end

    def decode(self, ids: list[int], special: bool = False) -> str:
        """Control tokens have no text."""
        return self._backend.decode(ids)


FILES: dict[str, Callable[[Path], Tokenizer]] = {".json": JsonTokenizer, ".model": SentencePieceTokenizer}  # by ending, best first


def find_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer of a model folder, None when there is none."""
    return next((read_tokenizer(path) for ending in FILES if (path := folder / f"tokenizer{ending}").is_file()), None)


def read_tokenizer(path: Path) -> Tokenizer:
    """That of a file, by the name's ending. Raises StrataError when it cannot be read."""
    try:
        return FILES[path.suffix](path)
    except ImportError as error:
        raise StrataError(f"{path} needs the package {error.name}: pip install {error.name}") from error
    except BaseException as error:  # the Rust and C++ backends raise bare Exception and more
        if not is_error(error):
            raise
        raise StrataError(f"cannot read the tokenizer {path}: {one_line(error)}; replace the file by the published one") from error


def in_front(post_processor: Any) -> list[int]:
    """Ids that a post-processor of `tokenizers` puts in front of a text."""
    state = json.loads(post_processor.__getstate__()) if post_processor else {}
    found: list[int] = []
    for part in state.get("processors", [state]):
        front = [part["cls"][1]] if "cls" in part else []  # RobertaProcessing, BertProcessing
        for piece in part.get("single", []):
            if "SpecialToken" not in piece:
                break
            front += part["special_tokens"][piece["SpecialToken"]["id"]]["ids"]
        found = front + found
    return found


def require_read(text: str, unread: tuple[str, ...]) -> None:
    """Raises StrataError when the text has one of the words that files beside a tokenizer add to it, and that it cannot read."""
    if found := [token for token in unread if token in text]:
        raise StrataError(
            f"the text has {found[0]!r}, a token that files beside the tokenizer add to it: write all into one tokenizer.json "
            "(`AutoTokenizer.from_pretrained(folder).save_pretrained(folder)` of transformers)"
        )
