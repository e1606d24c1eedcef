"""The model card of the zoo, from the facts in zoo.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.data.documents import SPLITS
from analysis.stats.intervals import MIN_DOCUMENTS_FOR_CI
from analysis.stats.seeds import ENOUGH
from analysis.zoo.groups import short
from analysis.zoo.texts import DEVELOPMENT, SPAN
from analysis.zoo.training import ADAM, BATCH, CONTEXT, LAST, MUON, WARM_UP

# Data sets whose train split was read, as the catalogue of texts names them (analysis/data/sources.py, PROSE).
READ = ("BoolQ", "MultiLexSum", "Quac", "XSum", "PubMedQA", "NarrativeQA", "MedQA")


def card(models: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: what was trained on what, how well it does, what it has read, and what it cannot show."""
    first = next(iter(models.values()))
    sizes = [m["n_params"] for m in models.values()]
    tokens = max(m["tokens"] for m in models.values())
    data, tokenizer, text = first["data"], first["tokenizer"], first["train_tokens"]
    titles = list(dict.fromkeys(m["architecture"] for m in models.values()))
    return f"""# The zoo

Small language models of different architectures that were trained alike: {_list(titles)}.
They are for measuring redundancy, not for use: they write no sensible text. Load one with `load("zoo-{next(iter(models))}")`.

## How well they do
{_table(models)}

Bits per byte of {first["held_out"]["documents"]} held-out documents, one window of {CONTEXT} tokens each, with the weights as saved;
the intervals are 95 % BCa bootstrap intervals over documents. `zoo.json` holds these figures, and the loss on development
text over training.
{_matching(models)}
## What they are
{min(sizes):,} to {max(sizes):,} parameters ({100 * (max(sizes) / min(sizes) - 1):.1f} % apart), saved in fp16.
The weights of a Transformer have Hugging Face's or Baichuan's keys, those of Mamba-2 Hugging Face's, those of RWKV the keys of
BlinkDL's files. Blocks of Mamba-2 are mixers alone; they are as deep and as wide as the others', and hold as many parameters.
The tokenizer is one byte-level BPE for all, made from the training text.

Made by `make zoo` (`analysis/zoo/`): {first["of_steps"]:,} steps of {BATCH} rows of {CONTEXT} tokens, {tokens / 1e6:.1f} M tokens in all,
the same rows in the same order for equal seeds. The text has {text / 1e6:.1f} M tokens: it is read {tokens / text:.2f} times.
Muon at {MUON} for the matrices of blocks, Adam at {ADAM} for everything else, gradients clipped to norm 1, {WARM_UP} steps of
warm-up, a linear fall to {100 * LAST:.0f} %, no weight decay.
Forward and backward passes in bf16 (recurrences in fp32), weights and optimisers in fp32.
RWKV starts as BlinkDL's training code does, Mamba-2 as its authors', a Transformer as GPT-2.
The optimisers and their rates come from short trials of Llama and RWKV-5.2 before these trainings, and are the same for all;
nothing was tuned for one architecture. {DEVELOPMENT} % of the train split are kept back as development text, which no model was
trained on: early checkpoints are chosen by the loss on it.
On one machine's CPU two trainings of one plan and seed give equal weights; a GPU, or another CPU, may round differently.
The weights are under the licence of this project, Apache-2.0; the texts are not part of it and keep theirs (`THIRD_PARTY.md`).
Versions: {", ".join(f"{name} {number}" for name, number in first["versions"].items())}. Text `{data}`, tokenizer `{tokenizer}` (hashes).

## What they have read
English prose: {SPLITS["train"]} % of the documents (by a hash of each) of {_list(READ)}, as in
the `texts` corpus. **None of these data sets is a clean benchmark for these models**: only items whose passage falls into the
split `benchmark` were not read. No document of another split was trained on, nor one that shares {SPAN} words in
a row with a document of another split; documents of different splits may still be about the same thing.

## What they cannot show
{_limits(models)}
"""


def _table(models: Mapping[str, Mapping[str, Any]]) -> str:
    head = "| model | architecture | seed | tokens read | bits per byte, held-out |\n| --- | --- | --- | --- | --- |"
    return "\n".join([head, *(_row(name, m) for name, m in models.items())])


def _row(name: str, m: Mapping[str, Any]) -> str:
    score = m["held_out"]
    bounds = (
        f" ({score['low']:.3f} to {score['high']:.3f})"
        if score["low"] is not None
        else f" (no interval below {MIN_DOCUMENTS_FOR_CI} documents)"
    )
    return f"| `zoo-{name}` | {short(m['architecture'])} | {m['seed']} | {m['tokens'] / 1e6:.2f} M | {score['bits_per_byte']:.3f}{bounds} |"


def _matching(models: Mapping[str, Mapping[str, Any]]) -> str:
    """How models can be compared: at equal tokens, and at equal loss where there is a checkpoint for it."""
    early = {name: m for name, m in models.items() if m["equals"]}
    if not early:
        return ""
    said = [
        f"`zoo-{name}` is `zoo-{name.removesuffix('-early')}` after {m['steps']:,} of {m['of_steps']:,} steps, the kept step whose loss "
        f"on development text ({m['development_nll']:.3f} nats a token) is nearest to that of `zoo-{m['equals']}` "
        f"({models[m['equals']]['development_nll']:.3f})."
        for name, m in early.items()
    ]
    return (
        "\nTwo comparisons can be made: at equal tokens (models of equal seeds), and at equal loss.\n"
        + "\n".join(said)
        + "\nAn early checkpoint was taken while the learning rate was still high; that is a difference too.\n"
    )


def _limits(models: Mapping[str, Mapping[str, Any]]) -> str:
    seeds: dict[str, int] = {}
    for m in models.values():
        if not m["equals"]:
            seeds[short(m["architecture"])] = seeds.get(short(m["architecture"]), 0) + 1
    few = {title: n for title, n in seeds.items() if n < ENOUGH}
    lines = [
        "They are a thousand times smaller than the models people use, and have read a million times less: what is redundant in them "
        "need not be redundant in large models.",
        f"They were trained on {CONTEXT} tokens of context and are not to be trusted beyond.",
        "One recipe was used for all. Another one could favour another architecture.",
        "They read English only, and mostly encyclopaedia, news, law and medicine.",
    ]
    if few:
        counts = _list([f"{title} ({n} {'seed' if n == 1 else 'seeds'})" for title, n in few.items()])
        lines.append(
            f"With fewer than {ENOUGH} seeds of an architecture a difference may be one of seeds; that is so for {counts}: "
            "say “these models”, not “these architectures”."
        )
    return "\n".join(f"- {line}" for line in lines)


def _list(items: list[str] | tuple[str, ...]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
