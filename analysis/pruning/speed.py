"""What removal buys: tokens a second and memory of a pruned model beside the dense one, in one run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from itertools import islice

import pandas as pd
import torch
from torch import Tensor

from adapters.base import BlockModel
from analysis.engine.decoding import tokens

ROUNDS = 5  # in which the models take turns
ROWS = 4  # sequences in one pass over a prompt


def speeds(models: Mapping[str, BlockModel], window: int, n_tokens: int = 16) -> pd.DataFrame:
    """One row a model: model, parameters, `active` ones that a token meets, `memory` of its weights in bytes, and `prefill` and `decode`
    in tokens a second, the best of the rounds and the worst.

    `prefill` reads ROWS prompts of `window` tokens at once; `decode` makes `n_tokens` behind one prompt, each on its own.
    The time of that prompt does not count.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    for _ in range(ROUNDS):
        for name, model in models.items():
            ids = (torch.arange(ROWS * window, device=model.device) % model.spec.vocab_size).view(ROWS, window)
            written = tokens(model, ids[:1])
            next(written)
            taken[name].append((_seconds(tokens(model, ids), 1, model.device), _seconds(written, n_tokens, model.device)))
    rows = []
    for name, model in models.items():
        prefill = [ROWS * window / seconds for seconds, _ in taken[name]]
        decode = [n_tokens / seconds for _, seconds in taken[name]]
        sizes = model.spec.n_params, model.spec.active_params, memory(model)
        rows.append((name, *sizes, max(prefill), min(prefill), max(decode), min(decode)))
    return pd.DataFrame(rows, columns=["model", "parameters", "active", "memory", "prefill", "prefill_worst", "decode", "decode_worst"])


def memory(model: BlockModel) -> int:
    """Bytes of all weights that are held; shared ones count once."""
    tables = [model.weights, *(block.weights for block in model.blocks)]
    return sum({t.data_ptr(): t.nbytes for table in tables for t in table.values()}.values())


def _seconds(written: Iterator[Tensor], n: int, device: torch.device) -> float:
    """That the next `n` tokens take."""
    _wait(device)  # for what is still being computed of the prompt
    start = time.perf_counter()
    list(islice(written, n))
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
