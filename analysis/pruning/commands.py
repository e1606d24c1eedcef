"""`strata prune`: a model without some of its blocks, as a checkpoint that others can read."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from adapters.base import BlockModel
from adapters.errors import StrataError, unknown
from adapters.export import Source, choose_format
from adapters.registry import load
from analysis.corpora.text import Text
from analysis.methods.checkpoint import IN_MEMORY, REWRITING, measure, require_stock, rewrite
from analysis.notebook import progress_on_stderr
from analysis.options import AsJson, Corpus, Device, Dtype, Model, Revision, Seed, Tokens, WindowSize, required, windows_of
from analysis.pruning.checkpoint import count_of, prepare
from analysis.pruning.orders import BLOCKS, ORDERS
from analysis.words import bounded

ORDER_NAMES = [name for name, order in ORDERS.items() if order.kinds == BLOCKS]


def prune(
    model: Model,
    by: Annotated[str, typer.Option(help=f"The order in which blocks go: {', '.join(ORDER_NAMES)}.")] = "bi",
    method: Annotated[
        str | None,
        typer.Option(
            help=f"Replaces what goes, instead of an order: {', '.join(REWRITING)}. Measured only, without --out: {', '.join(IN_MEMORY)}.",
            show_default=False,
        ),
    ] = None,
    remove: Annotated[int | None, typer.Option(help="How many blocks go.", show_default=False)] = None,
    ratio: Annotated[
        float | None, typer.Option(help="Which share of the blocks, or of their parameters, goes, for example 0.25.", show_default=False)
    ] = None,
    blocks: Annotated[str | None, typer.Option(help="Exactly these blocks, for example 21,22,23.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the checkpoint.", show_default=False)] = None,
    max_nll_increase: Annotated[
        float | None, typer.Option(help="Nats a token; when the loss rises by more, nothing is written and the exit code is 1.")
    ] = None,
    format: Annotated[str, typer.Option(help="safetensors, or pth for native RWKV weights; auto is the source's.")] = "auto",
    tokens: Tokens = 2048,
    window: WindowSize = 128,
    corpus: Corpus = "texts",
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    revision: Revision = None,
    as_json: AsJson = False,
) -> None:
    """Write a model without some of its blocks, read it back as others will, and measure what it lost.

    Example: strata prune smollm2 --by bi --remove 3 --out pruned/smollm2-bi-3
    """
    if method in IN_MEMORY and out is None:
        if ratio is None or remove is not None or blocks is not None:
            raise StrataError(f"--method {method} takes a share of the block parameters out: give --ratio 0.25 alone")
        text, dense = windows_of(corpus, tokens, window, seed), load(model, device=device, dtype=dtype, revision=revision)
        _measure(dense, text, method, ratio, max_nll_increase, as_json)
        return
    out = required(out, False)
    if by not in ORDER_NAMES:
        raise unknown("order", by, ORDER_NAMES)
    if method is not None:
        require_stock(method, blocks)
    if sum(value is not None for value in (remove, ratio, blocks)) != 1:
        raise StrataError("how much goes is not clear: give one of --remove 3, --ratio 0.25 and --blocks 21,22")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StrataError(f"{out} is not empty: give another --out")
    text = windows_of(corpus, tokens, window, seed)
    loaded = load(model, device=device, dtype=dtype, revision=revision)
    source = Source.of(model, loaded.spec, revision)
    format = choose_format(source, format)
    chosen = {"by": None, "blocks": _indices(blocks)} if blocks is not None else {"by": by, "count": _count(remove, ratio, loaded)}
    if method is not None:
        pruning = rewrite(loaded, source, text, method, _count(remove, ratio, loaded))
    else:
        pruning = prepare(loaded, source, text, **chosen, tell=progress_on_stderr())
    rise = pruning.loss.rises[-1]
    said = f"without blocks {', '.join(map(str, pruning.removed))} the loss rises by {bounded(rise)} nats a token"
    if max_nll_increase is not None and not rise.value <= max_nll_increase:
        print(f"strata: {said}, more than {max_nll_increase:g}: nothing is written", file=sys.stderr)
        raise typer.Exit(1)
    record = pruning.write(out, format)
    if as_json:
        print(json.dumps(record))
        return
    print(f"{said}, over {len(pruning.loss.tokens)} documents")
    for what, unit in (("parameters", ""), ("files", " bytes")):
        print(f"{what} {record[what]['pruned']:,} of {record[what]['dense']:,}{unit}")
    written = record["written"]
    print(f"wrote {out}; {written['read_by']} reads it with logits within {written['max_error_over_std']:.0e} of their spread")


def _measure(model: BlockModel, text: Text, method: str, ratio: float, most: float | None, as_json: bool) -> None:
    """Prints what a pruned model lacks and costs; the exit code is 1 when its loss rises by more than `most`."""
    found = measure(model, text, method, ratio)
    size, rise, parameters = found.solved.size, found.loss.rises[-1], found.record["parameters"]
    if as_json:
        print(json.dumps(found.record))
    else:
        print(f"{found.method}, knob {found.solved.knob:g}: the loss rises by {bounded(rise)} nats a token", end=", ")
        print(f"over {len(found.loss.tokens)} documents")
        print(f"removed: {size.block_params:.1%} of the block parameters, {size.params:.1%} of all, {size.flops:.1%} of the operations")
        print(f"parameters {parameters['pruned']:,} of {parameters['dense']:,}; nothing is written, for no stock loader holds it")
    if most is not None and not rise.value <= most:
        print(f"strata: the loss rises by {bounded(rise)} nats a token, more than {most:g}", file=sys.stderr)
        raise typer.Exit(1)


def _count(remove: int | None, ratio: float | None, model: BlockModel) -> int:
    n = len(model.spec.blocks)
    count = count_of(ratio, n) if ratio is not None else int(remove or 0)
    if not 0 < count < n:
        raise StrataError(f"{count} of {n} blocks are to be removed: give a number from 1 to {n - 1}, for at least one must stay")
    return count


def _indices(blocks: str) -> list[int]:
    try:
        return [int(word) for word in blocks.split(",")]
    except ValueError:
        raise StrataError(f"--blocks {blocks} is not a list of block indices: give, for example, --blocks 21,22,23") from None
