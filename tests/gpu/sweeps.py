"""Sweeps of the shape of Llama-2-7B: share of the rate of its matrix products, beside a loop over ablations, memory, and the same
with weights that are streamed from a disk."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from adapters import BlockModel, load
from analysis.engine.ablations import single_ablations
from analysis.engine.plan import Plan, plan
from analysis.engine.sweep import sweep
from analysis.engine.text_scores import TextScores
from tests.gpu.timing import best, matmul_rate
from tests.reference.sizes import LLAMA_2_7B, llama

TINY = LLAMA_2_7B | {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 4}
TINY |= {"num_hidden_layers": 3, "vocab_size": 211}
WINDOW = 512
DOCUMENTS = {"blocks": 8, "heads": 2}
SAMPLED = 3  # ablations that the loop is timed on; they share nothing, so the others take as long
DTYPE = torch.bfloat16
SHARDS = 16  # each is written in one call, which ends before the time can be up


def section(device: torch.device, tiny: bool) -> Iterator[dict[str, Any]]:
    """A row for each kind of part, with weights on the device and with weights on a disk, from which they were read a moment ago."""
    config = TINY if tiny else LLAMA_2_7B
    model = llama(config, device, DTYPE)
    rate = matmul_rate(device, DTYPE, 64 if tiny else 8192)
    read = {k: torch.randint(config["vocab_size"], (documents, 16 if tiny else WINDOW)).to(device) for k, documents in DOCUMENTS.items()}
    seconds, sums = {}, {}
    for kind, ids in read.items():
        row, sums[kind] = measured(model, kind, ids, rate)
        loop = loop_seconds(model, plan(model.spec, single_ablations(model.spec, [kind])), ids)
        seconds[kind] = row["seconds"]
        yield {"weights": "resident"} | row | {"loop_seconds": loop, "times_faster": loop / row["seconds"]}
    with tempfile.TemporaryDirectory() as folder:
        write(model, config, Path(folder))
        del model  # the card has room for it once
        streamed = load(folder, device=device, dtype=DTYPE, weights="streamed")
        for kind, ids in read.items():
            row, again = measured(streamed, kind, ids, rate)
            off = float(((again - sums[kind]) / (ids.shape[1] - 1)).abs().max())
            yield {"weights": "streamed"} | row | {"times_resident": row["seconds"] / seconds[kind], "off": off}


def write(model: BlockModel, config: dict, folder: Path) -> None:
    """The files that a model is published as, in SHARDS files."""
    assert model.layout is not None
    tensors = model.layout.write(model.weights, [block.weights for block in model.blocks])
    keys, where = list(tensors), {}
    for shard in range(SHARDS):
        name = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        mine = keys[len(keys) * shard // SHARDS : len(keys) * (shard + 1) // SHARDS]
        save_file({key: tensors[key].cpu() for key in mine}, folder / name)
        where |= dict.fromkeys(mine, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    said = {"model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(said | config))


def measured(model: BlockModel, kind: str, ids: torch.Tensor, rate: float) -> tuple[dict[str, Any], Tensor]:
    """The row, and the sums that were found."""
    device, work = model.device, plan(model.spec, single_ablations(model.spec, [kind]))
    sweep(model, plan(model.spec, work.ablations[1:3]), ids, kl=False)  # what is loaded when it is first used
    before = reset(device)
    sums: list[Tensor] = []
    seconds = best(lambda: sums.append(sweep(model, work, ids, kl=False)["nll"]), device, rounds=1, warm=False)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return {
        "kind": kind,
        "ablations": len(work.ablations),
        "tokens": ids.numel(),
        "seconds": seconds,
        "share_of_matmul": work.flops_per_token * ids.numel() / seconds / rate,
        "matmul_flops": rate,
        "before": before,
        "peak": peak,
    }, sums[0]


def loop_seconds(model: BlockModel, work: Plan, ids: torch.Tensor) -> float:
    """Of one whole pass for each ablation, timed on SAMPLED of them."""
    n = len(work.ablations)
    chosen = [work.ablations[i * (n - 1) // (SAMPLED - 1)] for i in range(SAMPLED)]
    lengths = torch.full((len(ids),), ids.shape[1], device=ids.device)

    def run() -> None:
        for ablation in chosen:
            TextScores(model, ids, lengths, 1, kl=False).add([0], [model.stream(ids, ablation)])

    return best(run, model.device) / SAMPLED * n


def reset(device: torch.device) -> int:
    """Bytes that are held now; the peak begins anew."""
    if device.type != "cuda":
        return 0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)
