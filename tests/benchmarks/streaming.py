"""A block sweep of SmolLM2 with weights that are read from its file block by block, against the same with weights in memory."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pandas as pd
from torch import Tensor
from transformers import LlamaForCausalLM

from adapters import BlockModel, load
from analysis.engine.ablations import single_ablations
from analysis.engine.plan import Plan, plan
from analysis.engine.sweep import sweep
from tests.benchmarks.timing import best, load_average

TITLE = "Streamed weights"
BATCHES = (1, 8)  # the fewer documents, the less there is to do for each block that is read


def section(model: BlockModel, foreign: LlamaForCausalLM, ids: Tensor) -> str:
    """Markdown: `ids` (32, T) are real text."""
    if model.origin is None or model.tokenizer is None:
        return f"## {TITLE}\n\nNot timed: the files of {model.spec.name} are gone."
    source, revision = model.origin
    streamed = load(source, device=model.device, dtype=model.dtype, revision=revision, weights="streamed")
    work, before = plan(model.spec, single_ablations(model.spec, ["blocks"])), load_average()
    table = pd.DataFrame([_row({"resident": model, "streamed": streamed}, work, ids[:n]) for n in BATCHES])
    return f"""
## {TITLE}

A block sweep with weights that are read from the file whenever a block is used (`--weights streamed`), against weights in memory. The
kernel holds the pages of the file, for it was read a moment ago. Sums are of a document, in nats. Load average before: {before}.

{table.to_markdown(index=False)}
"""


def _row(models: Mapping[str, BlockModel], work: Plan, ids: Tensor) -> dict[str, str]:
    sums: dict[str, Tensor] = {}

    def run(held: str) -> None:
        sums[held] = sweep(models[held], work, ids, kl=False)["nll"]

    times = best({held: partial(run, held) for held in models})
    return {
        "documents": f"{len(ids)}",
        **{f"{held}, s": f"{seconds:.2f}" for held, seconds in times.items()},
        "streamed / resident": f"{times['streamed'] / times['resident']:.2f}",
        "largest sum": f"{sums['resident'].abs().max():.0f}",
        "largest difference of sums": f"{(sums['streamed'] - sums['resident']).abs().max():.1e}",
        "load": load_average(),
    }
