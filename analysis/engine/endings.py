"""Where a text that a model writes ends, as lm_eval's HFLM at batch size 1 has it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from adapters.base import BlockModel
from adapters.errors import StrataError
from adapters.tokenizers import Tokenizer

LOOK_BACK = 2  # tokens beside those of a stop string, which may be cut into others


class Endings:
    """Of one model: its tokens that end a text, and stop strings. Raises StrataError without a tokenizer."""

    def __init__(self, model: BlockModel) -> None:
        if model.tokenizer is None:
            raise StrataError(
                f"{model.spec.name} comes without a tokenizer, and what it writes must be read: put its tokenizer.json beside its weights"
            )
        if model.alters:
            raise StrataError(
                f"generation_config.json of {model.spec.name} changes what the model writes ({', '.join(model.alters)}): "
                "take that out of the file to measure the model itself"
            )
        self.tokenizer: Tokenizer = model.tokenizer
        eos = self.tokenizer.eos_id
        self.ids = frozenset(model.end_tokens) | ({eos} if eos is not None else set())
        self._end_of_text = () if eos is None else tuple(filter(None, [self.tokenizer.decode([eos], special=True)]))
        self._decoded = lru_cache(1 << 14)(lambda ids: self.tokenizer.decode(list(ids), special=True))
        self._length = lru_cache(None)(lambda stop: len(self.tokenizer.encode(stop).ids))

    def strings(self, until: Sequence[str]) -> tuple[str, ...]:
        """With the text of the token that ends a text. Raises StrataError on an empty one, which every text holds."""
        if "" in until:
            raise StrataError("a stop string is empty, which would end every text at once: leave it out")
        return tuple(dict.fromkeys([*until, *self._end_of_text]))

    def why(self, tokens: Sequence[int], most: int, until: Sequence[str]) -> str:
        """Why the text of `tokens` ends behind the last of them: `end`, `stop` or `length`; empty when it goes on."""
        if tokens[-1] in self.ids:
            return "end"
        if any(stop in self._decoded(tuple(tokens[-self._length(stop) - LOOK_BACK :])) for stop in self.strings(until)):
            return "stop"
        return "length" if len(tokens) >= most else ""

    def text(self, tokens: Sequence[int], until: Sequence[str]) -> str:
        """Up to the first stop string, without special tokens."""
        found = self.tokenizer.decode(list(tokens))
        for stop in self.strings(until):
            found = found.split(stop)[0]
        return found
