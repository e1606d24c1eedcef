"""The model card of a pruned checkpoint: what is gone, what that costs, and who reads it."""

from __future__ import annotations

from typing import Any

from analysis.checkpoints.prune import PruningJob
from analysis.checkpoints.samples import Samples
from analysis.display.format import bounded, capital, count, escape, named, number
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
    spec, source, loss, removed = pruning.model.spec, pruning.source, pruning.loss, pruning.removed
    n, parameters, files = len(loss.tokens), record["parameters"], record["files"]
    same = "as converted to fp32" if source.converted else "byte for byte"
    lines = [
        f"# {escape(spec.name)} without {len(removed)} of its {len(spec.blocks)} blocks",
        "",
        f"{capital(named('block', removed))} (0-based) of {escape(source.asked)} "
        f"{'are' if len(removed) > 1 else 'is'} removed, {_how(pruning)}. Nothing was trained afterwards, and all other weights are those "
        f"of the source, {same}.",
        "",
        f"Parameters: {parameters['pruned'] / 1e6:,.1f} M of {parameters['dense'] / 1e6:,.1f} M. File: {files['pruned'] / 1e6:,.1f} MB of "
        f"{files['dense'] / 1e6:,.1f} MB, {source.precision}. {USE[record['written']['read_by']]}",
        *([REROOTED] if record["rerooted"] else []),
        "",
        "## What it costs",
        f"Loss on held-out text ({escape(pruning.text.corpus)}, {count(n, 'document')}, {pruning.text.window} tokens of each), "
        "in nats per token" + (", with 95 % intervals of the paired difference." if loss.rises[-1].low is not None else f"; {too_few(n)}."),
        "",
        "| blocks removed | which | loss | rise over the source model |",
        "| ---: | :--- | ---: | ---: |",
    ]
    for out, row, rise in zip(loss.path, loss.nll, loss.rises, strict=True):
        said = ", ".join(map(str, sorted(out.blocks))) or "none"
        lines.append(f"| {len(out.blocks)} | {said} | {number(float(row.sum() / loss.tokens.sum()))} | {bounded(rise)} |")
    wrote = samples.lines() if isinstance(samples, Samples) else [f"No text was written: {escape(samples)}."]
    lines += ["", *wrote, "Tasks can suffer more than the loss. Details are in strata.json.", ""]
    return "\n".join(lines)


def _how(pruning: PruningJob) -> str:
    if made := pruning.rewritten:
        return f"by {made.method}, whose calibration text gave the weights {', '.join(sorted(made.changed))}"
    return f"in the order of {pruning.order.thing.title} on calibration text" if pruning.order else "as requested"
