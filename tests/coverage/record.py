"""Sums per document of real runs, which the simulation of coverage draws documents from: writes `sums.json` beside it.

    python -m tests.coverage.record

zoo-llama-0 and zoo-rwkv5-0 on 160 held-out documents of at most 96 tokens: tokens and bytes of each, bits of the dense model and
of a byte unigram, bits more without each block, each of eight heads, and the first 1 to 12 blocks, the cheapest first; with the
first-order effects of these blocks and heads, at the point where sweeps take them; of the Llama also Block Influence on as many
calibration documents.
"""

from __future__ import annotations

import json
from itertools import accumulate
from operator import or_
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from adapters import Ablation, load
from adapters.base import BlockModel
from analysis.control.covariates import first_order, sizes
from analysis.data.batches import Text, batches
from analysis.data.unigram import unigram_bits
from analysis.engine.ablations import single_ablations
from analysis.metrics.study import ImportanceStudy
from analysis.runs.sweep_run import SweepStudy

TEXT = Text(documents=160, window=96)
HEADS = [Ablation(heads={(block, head)}) for block in (0, 3, 7, 11) for head in (0, 2)]
OUT = Path(__file__).with_name("sums.json")


def record(name: str, folder: Path) -> dict[str, Any]:
    model = load(name, device="cpu", dtype="float32")
    blocks = single_ablations(model.spec, ["blocks"])
    scores = _bits(model, blocks, folder / "blocks")
    cheapest_first = [blocks[i] for i in np.argsort(scores["rises"].sum(1))]
    path = _bits(model, list(accumulate(cheapest_first, or_)), folder / "path")
    unigram = unigram_bits(TEXT.corpus, TEXT.windows(model), scores["bytes"])
    heads = _bits(model, HEADS, folder / "heads")["rises"]
    found = scores | {"unigram": unigram, "path": path["rises"], "heads": heads}
    (batch,) = batches(TEXT.windows(model), model, TEXT.documents)
    found |= {f"{kind}_first_order": first_order(model, parts, batch) / np.log(2) for kind, parts in (("blocks", blocks), ("heads", HEADS))}
    if name == "zoo-llama-0":
        found["blocks_size"] = sizes(model, blocks, batch)
        importance = ImportanceStudy(model, TEXT.calibration(model))
        importance.run(folder / "importance")
        influence = importance.scores(folder / "importance")
        found |= {"bi": influence["bi"], "bi_tokens": influence["real"]}
    return {key: np.asarray(values, dtype=float).round(2).tolist() for key, values in found.items()}


def _bits(model: BlockModel, ablations: list[Ablation], folder: Path) -> dict[str, np.ndarray]:
    scores = SweepStudy.of(model, ablations, TEXT, kl=False).scores(folder)
    bits = scores["nll"] / np.log(2)
    return {"tokens": scores["tokens"], "bytes": scores["bytes"], "dense": bits[0], "rises": bits[1:] - bits[0]}


def main() -> None:
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        found = {name: record(name, Path(folder) / name) for name in ("zoo-llama-0", "zoo-rwkv5-0")}
    OUT.write_text(json.dumps(found, separators=(",", ":")).replace("],", "],\n") + "\n")


if __name__ == "__main__":
    main()
