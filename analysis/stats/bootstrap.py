"""The one bootstrap of the project: documents are drawn again, with replacement (Efron, 1979)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray

RESAMPLES = 2000
BATCH = 200  # resamples at once: bounds the memory


def resampled(of: Callable[..., Array], *documents: int, seed: int = 0) -> Array:
    """`of` draws (BATCH, D) of each number of documents: what it is on RESAMPLES of them, (..., RESAMPLES).

    One number for each set of documents that is drawn on its own. Equal numbers and seeds give equal draws, so that
    statistics of the same documents are paired.
    """
    rng = np.random.default_rng(seed)
    batches = [of(*(rng.integers(n, size=(BATCH, n)) for n in documents)) for _ in range(RESAMPLES // BATCH)]
    return np.concatenate(batches, axis=-1)
