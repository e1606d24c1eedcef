"""Block Influence of SmolLM2's blocks against a plain forward pass without head."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from adapters import BlockModel
from analysis.metrics.metrics import measure
from tests.benchmarks.timing import best, load_average

TITLE = "Importance"
BATCHES = (1, 8)


@torch.inference_mode()
def section(model: BlockModel, foreign: LlamaForCausalLM, ids: Tensor) -> str:
    """Markdown: `ids` (32, T) are real text, `foreign` is Hugging Face's model with the same weights."""
    lengths = ids.new_full((len(ids),), ids.shape[1])
    contenders = {}
    for n in BATCHES:
        contenders[f"BI {n}"] = lambda n=n: measure(model, ids[:n], lengths[:n], ["bi"])
        contenders[f"ours {n}"] = lambda n=n: model.stream(ids[:n])
        contenders[f"Hugging Face {n}"] = lambda n=n: foreign.model(ids[:n], use_cache=False)
    times = best(contenders, rounds=7)
    rate = {name: min(times[f"{name} {n}"] / n for n in BATCHES) for name in ("BI", "ours", "Hugging Face")}
    raw = ", ".join(f"{name} {seconds:.3f}" for name, seconds in times.items())
    return f"""
## {TITLE}

Block Influence of all blocks takes {rate["BI"] / rate["ours"]:.2f} times as long as our plain forward pass without head, and
{rate["BI"] / rate["Hugging Face"]:.2f} times as long as Hugging Face's, each at the better of batches of
{" and ".join(map(str, BATCHES))} documents; the best of seven rounds. Raw times in seconds: {raw}; load average {load_average()}.
"""
