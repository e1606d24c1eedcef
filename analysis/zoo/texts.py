"""What the zoo reads: the train split as rows of tokens in a seeded order, a part of it kept back for development."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from adapters.errors import StrataError
from analysis.data.documents import SPLITS, Document
from analysis.zoo.architectures import CONTEXT, VOCAB

SEPARATOR = "<|endoftext|>"  # between documents; token 0
SPAN = 20  # words in a row that no two documents share by chance
DEVELOPMENT = 2  # percent of the train split, by another part of the hash: never trained on, chooses what has to be chosen


@dataclass(frozen=True, slots=True)
class Texts:
    """Documents to train on and to choose by, and the tokenizer that was made from the first."""

    train: tuple[Document, ...]
    development: tuple[Document, ...]
    tokenizer: Tokenizer

    @classmethod
    def of(cls, documents: Iterable[Document]) -> Texts:
        """Divides documents of the train split. Raises StrataError when one is of another split."""
        train: list[Document] = []
        development: list[Document] = []
        for document in documents:
            if (split := document.split(SPLITS)) != "train":
                raise StrataError(f"the training text overlaps the {split} split (document {document.id}): train on the split `train` only")
            (development if int(document.id[8:], 16) % 100 < DEVELOPMENT else train).append(document)
        if not train or not development:
            raise StrataError(f"{len(train)} documents to train on and {len(development)} to choose by: give a longer text")
        return cls(tuple(train), tuple(development), train_tokenizer(d.text for d in train))

    @property
    def hash(self) -> str:
        return hashlib.sha256(json.dumps([d.id for d in (*self.train, *self.development)]).encode()).hexdigest()[:16]

    @property
    def tokenizer_hash(self) -> str:
        return hashlib.sha256(self.tokenizer.to_str(pretty=True).encode()).hexdigest()[:16]


def clean(documents: Iterable[Document]) -> list[Document]:
    """Those of the train split that share no SPAN words in a row with a document of another split.

    Passages of one source are cut and quoted differently in several data sets: 2 % of the held-out ones have such a span.
    """
    documents = list(documents)
    others = {span for d in documents if d.split(SPLITS) != "train" for span in _spans(d)}
    return [d for d in documents if d.split(SPLITS) == "train" and others.isdisjoint(_spans(d))]


def _spans(document: Document) -> Iterator[bytes]:
    words = document.text.casefold().split()
    for i in range(len(words) - SPAN + 1):
        yield hashlib.blake2b(" ".join(words[i : i + SPAN]).encode(), digest_size=8).digest()


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Byte-level BPE with VOCAB entries, the separator among them; the same texts give the same tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=[SEPARATOR], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


class Rows:
    """Documents as rows of CONTEXT tokens and the one behind them. Row k is a function of the seed and k.

    In each epoch the documents are shuffled and joined, cut into rows, and the rows are shuffled.
    """

    def __init__(self, documents: Sequence[Document], tokenizer: Tokenizer, seed: int) -> None:
        separator = tokenizer.token_to_id(SEPARATOR)
        encodings = tokenizer.encode_batch_fast([d.text for d in documents], add_special_tokens=False)
        self._documents = [np.array([separator, *e.ids], dtype=np.uint16) for e in encodings]
        self._seed = seed
        self.tokens = sum(map(len, self._documents))
        self._per_epoch = (self.tokens - 1) // CONTEXT
        if self._per_epoch < 1:
            raise StrataError(f"{self.tokens} tokens are less than a row of {CONTEXT}: give a longer text")
        self._epoch = lru_cache(maxsize=2)(self._shuffled)

    def take(self, first: int, n: int) -> Tensor:
        """Rows first .. first + n - 1: (n, CONTEXT + 1)."""
        at = [divmod(k, self._per_epoch) for k in range(first, first + n)]
        return torch.stack([torch.from_numpy(self._epoch(epoch)[row].astype(np.int64)) for epoch, row in at])

    def _shuffled(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self._seed, epoch])
        joined = np.concatenate([self._documents[i] for i in rng.permutation(len(self._documents))])
        rows = np.lib.stride_tricks.sliding_window_view(joined, CONTEXT + 1)[: self._per_epoch * CONTEXT : CONTEXT]
        return rows[rng.permutation(self._per_epoch)]
