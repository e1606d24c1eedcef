"""A tokenizer and the embedding that its ids go into: whether they are of one model, as far as sizes tell."""

from __future__ import annotations

import re

from adapters.errors import StrataError, is_error, one_line
from adapters.tokenizers import Encoding, Tokenizer

# Published embeddings have rows without a token, up to a fortieth of them (DeepSeek 2.3 %, ERNIE 2.1 %, Phi 1.8 %).
UNUSED, PADDING = 10, 128


def mismatch(tokenizer: Tokenizer, rows: int) -> str:
    """Why a tokenizer is not of a model whose embedding has so many rows; empty when it may be."""
    if tokenizer.top > rows:
        return f"its tokens have ids up to {tokenizer.top - 1:,}, and the embedding has {rows:,} rows"
    if rows - tokenizer.size > max(rows // UNUSED, PADDING):
        return f"it has {tokenizer.size:,} tokens, and the embedding has {rows:,} rows, of which a tenth may be unused"
    return ""


class EmbeddedTokenizer:
    """A tokenizer that gives no id behind the embedding, and only StrataError.

    Added tokens behind the embedding do no harm until a text has one. Raises StrataError when the tokenizer is of another model.
    """

    def __init__(self, tokenizer: Tokenizer, rows: int, name: str) -> None:
        self._tokenizer, self._rows, self._name = tokenizer, rows, name
        wrong = mismatch(tokenizer, rows)
        if not wrong and tokenizer.bos_id is not None and not 0 <= tokenizer.bos_id < rows:
            wrong = f"the token in front of a text has the id {tokenizer.bos_id:,}, and the embedding has {rows:,} rows"
        if wrong:
            raise StrataError(f"the tokenizer of {name} is of another model ({wrong}): use the one that came with the weights")
        self.bos_id, self.top, self.size = tokenizer.bos_id, tokenizer.top, tokenizer.size
        self.prefix_id = next((i for i in (tokenizer.prefix_id, self.bos_id) if i is not None and 0 <= i < rows), None)
        self.eos_id = tokenizer.eos_id if tokenizer.eos_id is not None and 0 <= tokenizer.eos_id < rows else None

    def encode(self, text: str) -> Encoding:
        try:
            found = self._tokenizer.encode(text)
        except StrataError:
            raise
        except BaseException as error:
            if not is_error(error):
                raise
            half = re.search("[\ud800-\udfff]", text)
            why = f"character {half.start()} is half a character (a lone surrogate)" if half else one_line(error)
            raise StrataError(f"the tokenizer of {self._name} cannot read a text: {why}; take it out of the text") from error
        if max(found.ids, default=0) >= self._rows:
            i = next(i for i in found.ids if i >= self._rows)
            raise StrataError(
                f"the text has the token {self.decode([i])!r} with the id {i:,}, and {self._name} has {self._rows:,} rows of embedding: "
                "take the tokenizer that came with the weights, or a text without it"
            )
        return found

    def decode(self, ids: list[int], special: bool = False) -> str:
        return self._tokenizer.decode(ids, special)
