"""The model card of a pruned checkpoint: what is gone, what that costs, and who reads it."""

from __future__ import annotations

from typing import Any

from adapters.ablation import Ablation
from adapters.specs import ModelSpec
from analysis.checkpoints.cuts import DECI
from analysis.checkpoints.prune import PruningJob
from analysis.checkpoints.samples import Samples
from analysis.display.format import bounded, capital, count, escape, listed, named, number
from analysis.display.sentences import too_few

USE = {
    "transformers": "`AutoModelForCausalLM.from_pretrained` reads it.",
    "rwkv": "The `rwkv` package reads it.",
    "strata": "Strata reads it (`from adapters import load; load(FOLDER)`), and so does the code that reads its source; none is copied "
    "here.",
}
REROOTED = (
    "Its first block is now the source of RWKV-7's v_first, which was that of block 0. Losses are of this model in the last row below; "
    "models of rows above it without block 0 keep its v_first."
)


def card(pruning: PruningJob, record: dict[str, Any], samples: Samples | str) -> str:
    """README.md of the checkpoint; `record` is what strata.json says."""
    spec, source, loss, out = pruning.model.spec, pruning.source, pruning.loss, pruning.out
    n, parameters, files = len(loss.tokens), record["parameters"], record["files"]
    several = sum(map(len, out.parts.values())) > 1
    same = "as converted to fp32" if source.converted else "byte for byte"
    blocks = not any(out.parts.keys() - {"blocks"} for out in loss.path)
    lines = [
        f"# {escape(spec.name)} without {counted(out, spec)}",
        "",
        f"{capital(in_words(out))} (0-based) of {escape(source.asked)} "
        f"{'are' if several else 'is'} removed, {_how(pruning)}. Nothing was trained afterwards, and all other weights are those "
        f"of the source, {same}.",
        *([zeros(pruning)] if pruning.left.zeroed else []),
        "",
        f"Parameters: {parameters['pruned'] / 1e6:,.1f} M of {parameters['dense'] / 1e6:,.1f} M{_active(record)}. "
        f"File: {files['pruned'] / 1e6:,.1f} MB of {files['dense'] / 1e6:,.1f} MB, {source.precision}. "
        f"{USE[record['written']['read_by']]}",
        *([REROOTED] if record["rerooted"] else []),
        "",
        "## What it costs",
        f"Loss on held-out text ({escape(pruning.text.corpus)}, {count(n, 'document')}, {pruning.text.window} tokens of each), "
        "in nats per token" + (", with 95 % intervals of the paired difference." if loss.rises[-1].low is not None else f"; {too_few(n)}."),
        "",
        f"| {'blocks' if blocks else 'parts'} removed | which | loss | rise over the source model |",
        "| ---: | :--- | ---: | ---: |",
    ]
    for one, row, rise in zip(loss.path, loss.nll, loss.rises, strict=True):
        said = (", ".join(map(str, sorted(one.blocks))) if blocks else in_words(one)) or "none"
        parts = sum(map(len, one.parts.values()))
        lines.append(f"| {parts} | {said} | {number(float(row.sum() / loss.tokens.sum()))} | {bounded(rise)} |")
    wrote = samples.lines() if isinstance(samples, Samples) else [f"No text was written: {escape(samples)}."]
    lines += ["", *wrote, "Tasks can suffer more than the loss. Details are in strata.json.", ""]
    return "\n".join(lines)


def in_words(out: Ablation) -> str:
    """ "blocks 3 and 4, mixer 5 and heads 2.1 and 2.2"; empty where nothing is out."""
    shown = {kind: [".".join(map(str, part)) if isinstance(part, tuple) else part for part in parts] for kind, parts in out.parts.items()}
    return listed(named(kind.removesuffix("s"), parts) for kind, parts in shown.items())


def counted(out: Ablation, spec: ModelSpec) -> str:
    """ "3 of its 12 blocks and 20 of its 48 heads"."""
    of = {
        "blocks": len(spec.blocks),
        "mixers": sum(block.has_mixer for block in spec.blocks),
        "ffns": sum(block.has_ffn for block in spec.blocks),
        "heads": sum(block.n_heads or 0 for block in spec.blocks),
        "experts": sum(block.n_experts for block in spec.blocks),
    }
    return listed(f"{len(parts):,} of its {of[kind]:,} {kind}" for kind, parts in out.parts.items())


def zeros(pruning: PruningJob) -> str:
    """What is zero in the files, and what that means for their size."""
    kinds = listed(kind for kind in pruning.out.parts if kind not in ("blocks", "experts"))
    saved = f" A loader that leaves them out would need {pruning.needed:,} parameters: {DECI}." if pruning.needed else ""
    return (
        f"What the {kinds} gave is zero (their share of the output projections) in weights of the same shapes, so that every loader reads "
        f"them and the file is no smaller for it.{saved}"
    )


def _active(record: dict[str, Any]) -> str:
    if "experts" not in record:
        return ""
    met = record["experts"]["active_parameters"]
    return f", of which a token meets {met['pruned'] / 1e6:,.1f} M of {met['dense'] / 1e6:,.1f} M"


def _how(pruning: PruningJob) -> str:
    if made := pruning.method:
        return f"by {made.title}, whose calibration text gave the weights {', '.join(sorted(pruning.left.changed))}"
    return f"in the order of {pruning.order.thing.title} on calibration text" if pruning.order else "as requested"
