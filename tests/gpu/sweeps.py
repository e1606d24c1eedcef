"""Sweeps of the shape of Llama-2-7B: share of the rate of its matrix products, beside a loop over ablations, and memory."""

from __future__ import annotations

import time
from typing import Any

import torch

from adapters import BlockModel
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


def section(device: torch.device, tiny: bool, end: float) -> list[dict[str, Any]]:
    """A row for each kind of part."""
    model = llama(TINY if tiny else LLAMA_2_7B, device, DTYPE)
    rate = matmul_rate(device, DTYPE, 64 if tiny else 8192)
    found = []
    for kind, documents in DOCUMENTS.items():
        if time.monotonic() > end:
            break
        ids = torch.randint(model.spec.vocab_size, (documents, 16 if tiny else WINDOW)).to(device)
        found.append(measured(model, kind, ids, rate))
    return found


def measured(model: BlockModel, kind: str, ids: torch.Tensor, rate: float) -> dict[str, Any]:
    device, work = model.device, plan(model.spec, single_ablations(model.spec, [kind]))
    sweep(model, plan(model.spec, work.ablations[1:3]), ids, kl=False)  # what is loaded when it is first used
    before = reset(device)
    seconds = best(lambda: sweep(model, work, ids, kl=False), device, rounds=1, warm=False)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    loop = loop_seconds(model, work, ids)
    return {
        "kind": kind,
        "ablations": len(work.ablations),
        "tokens": ids.numel(),
        "seconds": seconds,
        "share_of_matmul": work.flops_per_token * ids.numel() / seconds / rate,
        "matmul_flops": rate,
        "loop_seconds": loop,
        "times_faster": loop / seconds,
        "weights": before,
        "peak": peak,
    }


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
