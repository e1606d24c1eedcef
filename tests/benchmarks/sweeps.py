"""Block and head sweeps of SmolLM2 against the naive loop and against the floor."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaForCausalLM

from adapters import Ablation, BlockModel
from analysis.engine.ablations import single_ablations
from analysis.engine.plan import Plan, plan
from analysis.engine.sweep import sweep
from tests.benchmarks.timing import best, load_average, peak_of, resident

TITLE = "Sweeps"
BATCHES = (1, 8, 32)
DOCUMENTS = {"blocks": 8, "heads": 2}  # of the timed sweep; the naive loop's are BATCHES
SAMPLED = 3  # ablations that the naive loop is timed on; they share nothing, so the others take as long


def section(model: BlockModel, foreign: LlamaForCausalLM, ids: Tensor) -> str:
    """Markdown: `ids` (32, T) are real text, `foreign` is Hugging Face's model with the same weights."""
    before = load_average()
    table = pd.DataFrame([_row(kind, kl, model, foreign, ids) for kind, kl in (("blocks", False), ("heads", False), ("blocks", True))])
    return f"""
## {TITLE}

The naive loop deletes the block (or zeroes the head at the input of the output projection) in Hugging Face's model and runs
the whole of it again; its figure is the best of batches of {", ".join(map(str, BATCHES))} documents, timed on {SAMPLED}
of the ablations, since they share no work. The floor is the plan's operations at the rate of the best plain forward pass with
head and log-softmax, at the same batches. Load average before: {before}.

{table.drop(columns=["raw seconds", "load"]).to_markdown(index=False)}

Raw times of one round's best, in seconds (`naive n`: {SAMPLED} ablations on n documents; `forward n`: n documents;
`sweep`: {DOCUMENTS["blocks"]} documents for blocks, {DOCUMENTS["heads"]} for heads), and the load average behind each:

{table[["sweep", "raw seconds", "load"]].to_markdown(index=False)}

Peak memory is what a sweep adds to what the process holds with the model loaded.
"""


def _row(kind: str, kl: bool, model: BlockModel, foreign: LlamaForCausalLM, ids: Tensor) -> dict[str, str]:
    ablations = single_ablations(model.spec, [kind])
    work, documents = plan(model.spec, ablations), DOCUMENTS[kind]
    chosen = [ablations[i * (len(ablations) - 1) // (SAMPLED - 1)] for i in range(SAMPLED)]
    contenders: dict[str, Callable[[], object]] = {"sweep": lambda: sweep(model, work, ids[:documents], kl=kl)}
    for n in BATCHES:
        contenders[f"naive {n}"] = lambda n=n: [naive(foreign, a, ids[:n]) for a in chosen]
        contenders[f"forward {n}"] = lambda n=n: _forward(model, ids[:n])
    before = resident()
    memory = peak_of(contenders["sweep"]) - before  # first, when nothing else has left its buffers behind
    times = best(contenders)
    ours = times["sweep"] / documents
    theirs = min(times[f"naive {n}"] / n for n in BATCHES) / SAMPLED * len(work.ablations)
    floor = _floor(work, model, {n: times[f"forward {n}"] for n in BATCHES})
    return {
        "sweep": f"{kind}{', with KL' if kl else ''}",
        "ours, s/document": f"{ours:.2f}",
        "naive loop, s/document": f"{theirs:.1f}",
        "times faster": f"{theirs / ours:.2f}",
        "floor, s/document": f"{floor:.2f}",
        "share of the floor": f"{floor / ours:.2f}",
        "raw seconds": ", ".join(f"{name} {seconds:.2f}" for name, seconds in times.items()),
        "peak memory, MB": f"{memory / 2**20:.0f}",
        "load": load_average(),
    }


def _floor(work: Plan, model: BlockModel, seconds: dict[int, float]) -> float:
    """Seconds a document that the plan's operations take at the rate of the best plain forward with head and log-softmax."""
    forward = plan(model.spec, []).flops_per_token
    return work.flops_per_token / forward * min(t / n for n, t in seconds.items())


@torch.inference_mode()
def _forward(model: BlockModel, ids: Tensor) -> None:
    F.log_softmax(model.run(ids), -1)


@torch.inference_mode()
def naive(foreign: LlamaForCausalLM, ablation: Ablation, ids: Tensor) -> Tensor:
    """The whole model again, without the block or the head, as a script without Strata would."""
    with _without(foreign, ablation) as model:
        logits = model(ids, use_cache=False).logits
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


@contextmanager
def _without(model: LlamaForCausalLM, ablation: Ablation) -> Iterator[LlamaForCausalLM]:
    layers, hooks = model.model.layers, []
    if ablation.blocks:
        kept = [layer for i, layer in enumerate(layers) if i not in ablation.blocks]
        model.model.layers, config = torch.nn.ModuleList(kept), copy.copy(model.config.num_hidden_layers)
        model.model.config.num_hidden_layers = len(kept)
    for block, head in ablation.heads:
        hooks.append(layers[block].self_attn.o_proj.register_forward_pre_hook(_zeroing(head, model.config.head_dim)))
    try:
        yield model
    finally:
        for hook in hooks:
            hook.remove()
        if ablation.blocks:
            model.model.layers, model.model.config.num_hidden_layers = layers, config


def _zeroing(head: int, size: int) -> Callable:
    def hook(module: torch.nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        z = args[0].clone()
        z[..., head * size : (head + 1) * size] = 0
        return (z,)

    return hook
