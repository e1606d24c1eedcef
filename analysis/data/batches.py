"""What is read: a text, and its windows as batches of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapters.base import BlockModel
from adapters.errors import StrataError
from adapters.memory import free, megabytes
from adapters.shortage import too_little
from adapters.tokenizers import SPECIAL_TOKENS, Tokenizer
from analysis.data.documents import Window, require_disjoint, sampled
from analysis.data.hashes import content_hash
from analysis.data.reading import Reading
from analysis.data.sources import first_documents

FEW = 8  # documents
STREAMED = 8192  # tokens
PROBE = "The naïve cats, 3 of 12, ate 东西.\n\n"  # tokenizers that differ are told apart by what they make of it


class Batch(NamedTuple):
    windows: Sequence[Window]
    ids: Tensor  # (D, T), right-padded
    lengths: Tensor  # (D,)
    tokens: np.ndarray  # (D,) scored tokens
    bytes: np.ndarray  # (D,) bytes that the scored tokens stand for
    first: Tensor | None = None  # (D,) index of the first token that is scored, 1 where there is none


def tokenizer_of(model: BlockModel) -> Tokenizer:
    if model.tokenizer is None:
        raise StrataError(
            f"{model.spec.name} comes without a tokenizer, and text must be tokenised: put its tokenizer.json beside its weights"
        )
    return model.tokenizer


@dataclass(frozen=True, slots=True)
class Text:
    """What is read: windows of `window` tokens from `documents` documents of a split of a corpus."""

    corpus: str = "texts"
    split: str | None = "held-out"
    window: int = 128
    documents: int = 16
    seed: int = 0
    tokenizers: tuple[Tokenizer, ...] = ()  # of all models that are to score the same bytes; none: the model's own alone
    only: tuple[int, ...] | None = None  # of the windows, by number; None: all of them

    def windows(self, model: BlockModel) -> list[Window]:
        """Raises StrataError when the corpus is too short or the window longer than the model's context."""
        if self.window >= model.spec.max_len:
            raise StrataError(f"a window of {self.window} tokens is too long for {model.spec.name}, whose context has {model.spec.max_len}")
        found = self._sampled(model)[0]
        return found if self.only is None else [found[i] for i in self.only]

    def reading(self, model: BlockModel) -> Reading:
        """What was read to find the windows: files, rows, documents, and what was passed over."""
        return self._sampled(model, fewer=True)[1]

    def at_most(self, documents: int, model: BlockModel) -> Text:
        """The same with `documents` documents, or as many as the corpus has."""
        text = replace(self, documents=documents)
        return replace(text, documents=len(text._sampled(model, fewer=True)[0]))

    def calibration(self, model: BlockModel, documents: int | None = None) -> Text:
        """As much of the calibration part of the same corpus: as many documents, or `documents`, or as many as there are.

        Raises StrataError when the two share a document.
        """
        found = replace(self, split="calibration").at_most(documents or self.documents, model)
        require_disjoint(self._sampled(model, fewer=True)[0], found.windows(model))
        return found

    def _sampled(self, model: BlockModel, *, fewer: bool = False) -> tuple[list[Window], Reading]:
        tokenizers = self.tokenizers or tokenizer_of(model)
        return sampled(self.corpus, self.documents, self.window, tokenizers, split=self.split, seed=self.seed, fewer=fewer)

    @property
    def identity(self) -> dict[str, Any]:
        first, read = first_documents(self.corpus), sorted({tokenizer_hash(tokenizer) for tokenizer in self.tokenizers})
        return {
            **{name: getattr(self, name) for name in ("corpus", "split", "window", "seed")},
            **({"first_documents": first} if first else {}),
            **({"tokenizers": read} if len(read) > 1 else {}),
        }


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """Tells tokenizers apart: by what they make of a text, what they put in front of it, and how they read special tokens in it."""
    return content_hash([tokenizer.bos_id, SPECIAL_TOKENS, tokenizer.encode(PROBE).ids])


def encode(windows: Sequence[Window], tokenizer: Tokenizer) -> Batch:
    """The model's own BOS token comes first where it has one; without it the first token of a window is not scored.

    Nor are tokens that begin in the window's unscored bytes, or are pieces of the character that the first token begins:
    the bytes that count are those of the scored tokens.
    """
    bos = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    encodings = [tokenizer.encode(window.text) for window in windows]
    rows = [torch.tensor(bos + encoding.ids) for encoding in encodings]
    lengths = torch.tensor([len(row) for row in rows])
    unscored = [w.unscored or (0 if bos else encoding.byte_ends[0]) for w, encoding in zip(windows, encodings, strict=True)]
    read = [sum(end <= n for end in e.byte_ends) if n else 0 for n, e in zip(unscored, encodings, strict=True)]
    first = torch.tensor([max(1, len(bos) + n) for n in read])
    return Batch(
        windows,
        torch.nn.utils.rnn.pad_sequence(rows, batch_first=True),
        lengths,
        (lengths - first).numpy(),
        np.array([encoding.byte_ends[-1] - n for encoding, n in zip(encodings, unscored, strict=True)]),
        first,
    )


def batches(windows: Sequence[Window], model: BlockModel, size: int | None = None) -> Iterator[Batch]:
    """The windows as token batches of `size` documents, `at_once` where nothing is said."""
    if size is None and windows:
        longest = max(windows, key=lambda window: len(window.text))
        size = at_once(model, len(tokenizer_of(model).encode(longest.text).ids) + 1)
    size = size or FEW
    for first in range(0, len(windows), size):
        yield encode(windows[first : first + size], tokenizer_of(model))


def plain_passes(model: BlockModel, text: Text) -> int:
    """Through its files, where weights are streamed, of a plain pass over a text: one for each batch."""
    return 0 if model.reader is None else -(-text.documents // at_once(model, text.window + 2))


def at_once(model: BlockModel, time: int) -> int:
    """Documents of `time` tokens that a plain pass reads: a few, or where weights are streamed as many as reading them is worth;

    fewer where what a block makes of them, and what enters every block, take more than an eighth of what is free. Raises StrataError
    where those of one document take more than there is.
    """
    inside, outside = 3 * max(block.d_ffn for block in model.spec.blocks), (8 + len(model.blocks)) * model.spec.d_model
    each, room = (inside + outside) * model.dtype.itemsize * time, free(model.device)
    if each > room:
        raise too_little(f"one document of {time} tokens needs {megabytes(each)}", room, model)
    fitting = room // 8 // each
    return max(1, min(FEW if model.reader is None else STREAMED // time, fitting))
