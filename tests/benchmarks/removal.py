"""Greedy removal of blocks of SmolLM2 against a naive search, which runs the whole remaining model for every candidate."""

from __future__ import annotations

from torch import Tensor
from transformers import LlamaForCausalLM

from adapters import NONE, Ablation, BlockModel
from analysis.data.batches import Batch
from analysis.engine.ablations import single_ablations
from analysis.removal.greedy import greedy
from tests.benchmarks.sweeps import BATCHES, naive
from tests.benchmarks.timing import best, load_average

TITLE = "Greedy removal"
ROUNDS, DOCUMENTS = 8, 4


def section(model: BlockModel, foreign: LlamaForCausalLM, ids: Tensor) -> str:
    """A paragraph for the benchmarks: `ids` (32, T) are real text, `foreign` is Hugging Face's model with the same weights."""
    lengths = ids.new_full((DOCUMENTS,), ids.shape[1])
    text = [Batch([], ids[:DOCUMENTS], lengths, lengths.cpu().numpy() - 1, lengths.cpu().numpy())]
    parts, n = single_ablations(model.spec, ["blocks"]), len(model.blocks)
    path: list[tuple[Ablation, ...]] = []
    contenders = {}
    for batch in BATCHES:  # a candidate in the first round and one in the last, whose mean is that of all rounds
        ends = [NONE | parts[0], Ablation(blocks=frozenset(range(ROUNDS)))]
        contenders[f"naive {batch}"] = lambda b=batch, e=ends: [naive(foreign, a, ids[:b]) for a in e]  # type: ignore[misc]
    times = best({"greedy": lambda: path.append(greedy(model, text, parts, ROUNDS))}, 1) | best(contenders)
    candidates = sum(n - k for k in range(ROUNDS))
    ours, theirs = times["greedy"] / DOCUMENTS, min(times[f"naive {b}"] / b for b in BATCHES) / 2 * candidates
    raw = ", ".join(f"{name} {seconds:.2f}" for name, seconds in times.items())
    return f"""
## {TITLE}

{ROUNDS} of {n} blocks, each time the one without which the loss is lowest: ours {ours:.1f} s a document, the naive search
{theirs:.1f} s a document, {theirs / ours:.2f} times as long. The naive search runs the whole remaining model for each of the {candidates}
candidates; its figure is from a candidate of the first round and one of the last, the best of three; ours
ran once. Out: {", ".join(map(str, sorted(path[0][-1].blocks)))}.
Raw times in seconds: {raw} ({DOCUMENTS} documents; `naive n`: 2 candidates on n documents); load average {load_average()}.
"""
