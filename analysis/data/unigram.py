"""The least that a model of text should know: how often each byte comes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from analysis.data.documents import OWN_SPLITS, SPLITS, Window, documents
from analysis.data.sources import is_offline, state
from analysis.stats.intervals import Array


def unigram_bits(corpus: str, windows: Sequence[Window], scored: Array) -> Array:
    """Bits that a unigram over bytes, fitted on all calibration documents of `corpus`, takes for each window: (D,).

    `scored` (D,): how many bytes at the end of each window count.
    """
    bits = _bits(corpus, state(corpus))
    texts = [np.frombuffer(window.text.encode(), dtype=np.uint8) for window in windows]
    return np.array([bits[text[len(text) - int(n) :]].sum() for text, n in zip(texts, scored, strict=True)])


@lru_cache(maxsize=4)
def _bits(corpus: str, state: object) -> Array:
    """Of each byte, (256,). Half a count more for each (Krichevsky and Trofimov, 1981): no byte is impossible."""
    shares, counts = SPLITS if is_offline(corpus) else OWN_SPLITS, np.full(256, 0.5)
    for document in documents(corpus):
        if document.split(shares) == "calibration":
            counts += np.bincount(np.frombuffer(document.text.encode(), dtype=np.uint8), minlength=256)
    return -np.log2(counts / counts.sum())
