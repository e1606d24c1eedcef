"""From documents to records: the loop that scores a text document by document into a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from adapters.base import BlockModel
from analysis.data.batches import Batch, batches
from analysis.data.documents import Window
from analysis.runs.run import Run

# What a record has beside the metrics of a study, one number a document.
COUNTED: dict[str, int | None] = {"tokens": None, "bytes": None}


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
    and `bytes` added (`COUNTED`, which stand in the rows of the run). `skipped` is told how many documents were there already.
    """
    done = run.scores()
    todo = [window for window in windows if window.id not in done]
    skipped(len(windows) - len(todo))
    if todo:
        with run.writing({**about, "windows": [window.id for window in windows]}):
            for batch in batches(todo, model, size):
                scores = {**score(batch), "tokens": batch.tokens, "bytes": batch.bytes}
                run.add([window.id for window in batch.windows], scores)
        done = run.scores()
    return {name: np.stack([done[w.id][name] for w in windows], axis=-1) for name in done[windows[0].id]}
