"""Windows of text as token batches, and the loop that scores them document by document into a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapters.base import BlockModel
from adapters.errors import StrataError
from adapters.tokenizers import Tokenizer
from analysis.corpora import Window
from analysis.runs import Run


class Batch(NamedTuple):
    windows: Sequence[Window]
    ids: Tensor  # (D, T), right-padded
    lengths: Tensor  # (D,)
    tokens: np.ndarray  # (D,) scored tokens
    bytes: np.ndarray  # (D,) bytes that the scored tokens stand for


def tokenizer_of(model: BlockModel) -> Tokenizer:
    if model.tokenizer is None:
        raise StrataError(f"{model.spec.name} comes without a tokenizer, and text is to be read: put its tokenizer.json beside its weights")
    return model.tokenizer


def encode(windows: Sequence[Window], tokenizer: Tokenizer) -> Batch:
    """The model's own BOS token comes first where it has one; without it the first token of a window is not scored."""
    bos = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    encodings = [tokenizer.encode(window.text) for window in windows]
    rows = [torch.tensor(bos + encoding.ids) for encoding in encodings]
    lengths = torch.tensor([len(row) for row in rows])
    unscored = [0 if bos else encoding.byte_ends[0] for encoding in encodings]
    return Batch(
        windows,
        torch.nn.utils.rnn.pad_sequence(rows, batch_first=True),
        lengths,
        lengths.numpy() - 1,
        np.array([encoding.byte_ends[-1] - first for encoding, first in zip(encodings, unscored, strict=True)]),
    )


def score_documents(
    run: Run,
    model: BlockModel,
    windows: Sequence[Window],
    size: int,
    score: Callable[[Batch], Mapping[str, np.ndarray]],
    about: Mapping[str, object],
    skipped: Callable[[int], None] = lambda n: None,
) -> dict[str, np.ndarray]:
    """Scores the windows that `run` does not hold yet, `size` documents at once, and returns all of them.

    `score` gives arrays whose last axis is the documents; so do the results, in the order of `windows`, with `tokens`
    and `bytes` added. `skipped` is told how many documents were there already.
    """
    done = run.scores()
    todo = [window for window in windows if window.id not in done]
    skipped(len(windows) - len(todo))
    if todo:
        with run.writing({**about, "windows": [window.id for window in windows]}):
            for first in range(0, len(todo), size):
                batch = encode(todo[first : first + size], tokenizer_of(model))
                scores = {**score(batch), "tokens": batch.tokens, "bytes": batch.bytes}
                run.add([window.id for window in batch.windows], scores)
        done = run.scores()
    return {name: np.stack([done[w.id][name] for w in windows], axis=-1) for name in done[windows[0].id]}
