"""`strata prune`: a model without some of its blocks, sub-layers, heads or experts, as a checkpoint that others can read."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from adapters.ablation import Ablation
from adapters.checkpoints.folders import require_empty
from adapters.errors import StrataError, unknown, visible
from adapters.plugins import installed
from reports.cli.generate import parts
from reports.cli.names import EXPERT_METRICS, IN_MEMORY, METRICS, ORDERS, REWRITING
from reports.cli.options import (
    AsJson,
    Corpus,
    Device,
    Dtype,
    Model,
    Revision,
    Seed,
    Tokens,
    Weights,
    WindowSize,
    kinds_of,
    reader,
    windows_of,
)

if TYPE_CHECKING:
    from adapters.base import BlockModel
    from adapters.checkpoints.export import Source
    from analysis.checkpoints.prune import PruningJob
    from analysis.data.batches import Text

Order = Annotated[
    str | None,
    typer.Option(
        help=f"The removal order: {', '.join(ORDERS)}, a metric, or one that a package adds; bi by default. Of other parts than blocks "
        f"(--kind): a metric, nll, kl or greedy; of experts {' or '.join(EXPERT_METRICS)} too, and not greedy. sublayers is greedy "
        "--kind mixers,ffns.",
        show_default=False,
    ),
]
MethodName = Annotated[
    str | None,
    typer.Option(
        help=f"A pruning method instead of an order: {', '.join(REWRITING)}. Measured only, without --out: {', '.join(IN_MEMORY)}.",
        show_default=False,
    ),
]
Count = Annotated[
    int | None, typer.Option(help="How many blocks, or parts of the --kind, to remove; experts: of each block.", show_default=False)
]
Ratio = Annotated[
    float | None, typer.Option(help="The share of the blocks, or parts of the --kind, to remove, for example 0.25.", show_default=False)
]
Params = Annotated[bool, typer.Option("--params", help="--ratio is a share of the parameters of all blocks.")]
Kind = Annotated[
    str | None,
    typer.Option(help="What is removed: blocks, or heads, kv_groups, mixers or ffns, separated by commas, or experts.", show_default=False),
]
ListedExperts = Annotated[
    str | None,
    typer.Option(help="Remove exactly these experts, as many in each block that has any, for example 0.3,1.6.", show_default=False),
]
Listed = Annotated[str | None, typer.Option(help="Remove exactly these blocks, for example 21,22,23.", show_default=False)]
Without = Annotated[
    str | None,
    typer.Option(help="Remove exactly these parts: 'heads 2.1,2.4', or 'blocks 3; mixers 4; ffns 5,6'.", show_default=False),
]
HowCut = Annotated[
    str,
    typer.Option(
        "--cut",
        help="How heads go: delete (their rows and columns, where a stock loader holds what is left) or zero (their columns of the output "
        "projection, in the same shapes); auto deletes where that can be. Mixers and ffns are always zeros.",
    ),
]
Folder = Annotated[Path | None, typer.Option(help="Folder of the checkpoint.", show_default=False)]
Most = Annotated[
    float | None, typer.Option(help="In nats per token: when the loss rises by more, nothing is written and the exit code is 1.")
]
Format = Annotated[str, typer.Option(help="safetensors, or pth for native RWKV weights; auto keeps the source's.")]


class PruneRequest(NamedTuple):
    """What is to go, as the options say it."""

    by: str | None
    method: str | None
    remove: int | None
    ratio: float | None
    blocks: str | None
    experts: str | None = None
    without: str | None = None
    params: bool = False
    kinds: Sequence[str] = ()
    cut: str = "auto"

    def check(self) -> None:
        """Raises StrataError on an unknown order, and on one beside another way to find what goes."""
        valid = sorted({*ORDERS, *METRICS, *EXPERT_METRICS, *installed("strata.orders"), *installed("strata.metrics")})
        if self.by is not None and self.by not in valid:
            raise unknown("order", self.by, valid)
        chosen = {"--by": self.by, "--kind": ",".join(self.kinds) or None}
        other = {"--blocks": self.blocks, "--experts": self.experts, "--without": self.without, "--method": self.method}
        for option, value in chosen.items():
            if others := [name for name, given in other.items() if given is not None and value is not None]:
                raise StrataError(f"{option} {value} and {others[0]} both choose what is removed: use only one of them")
        if self.params and (self.ratio is None or self.method is not None):
            raise StrataError("--params is of the --ratio of an order: give, for example, --ratio 0.25 --params")

    def check_written(self) -> None:
        """Raises StrataError on what no file holds, and when how much goes is not said once."""
        if self.method is not None:
            from analysis.methods.rewrite import require_stock

            require_stock(self.method, self.blocks or self.experts or self.without)
        if sum(value is not None for value in (self.remove, self.ratio, self.blocks, self.experts, self.without)) != 1:
            raise StrataError(
                "it is not clear how much to remove: give one of --remove 3, --ratio 0.25, --blocks 21,22, --experts 0.3,1.6 and "
                "--without 'heads 2.1,2.4'"
            )

    def pruning(self, model: BlockModel, source: Source, text: Text) -> PruningJob:
        """Finds what goes and measures what that costs. Raises StrataError as `prepare` and `rewrite` do."""
        from analysis.checkpoints.prune import Amount, count_of, prepare, prepare_given
        from analysis.methods.rewrite import rewrite
        from analysis.parameters import progress_on_stderr

        if self.blocks is not None:
            return prepare_given(model, source, text, _indices(self.blocks))
        if self.experts is not None:
            return prepare_given(model, source, text, Ablation(experts=_experts(self.experts)))
        if self.without is not None:
            return prepare_given(model, source, text, parts(self.without), self.cut)
        if self.method is not None:
            return rewrite(model, source, text, self.method, count_of(self.remove, self.ratio, len(model.spec.blocks)))
        amount, tell = Amount(self.remove, self.ratio, self.params), progress_on_stderr()
        return prepare(model, source, text, by=self.by or "bi", amount=amount, kinds=self.kinds, how=self.cut, tell=tell)


def prune(
    model: Model,
    by: Order = None,
    method: MethodName = None,
    remove: Count = None,
    ratio: Ratio = None,
    params: Params = False,
    kind: Kind = None,
    blocks: Listed = None,
    experts: ListedExperts = None,
    without: Without = None,
    cut: HowCut = "auto",
    out: Folder = None,
    max_nll_increase: Most = None,
    format: Format = "auto",
    tokens: Tokens = 2048,
    window: WindowSize = 128,
    corpus: Corpus = "texts",
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    revision: Revision = None,
    weights: Weights = "auto",
    as_json: AsJson = False,
) -> None:
    """Write a model without some of its blocks, sub-layers, heads or experts, read it back as others will, and measure what it lost.

    Without --out it is measured alone.

    Example: strata prune smollm2 --by bi --remove 3 --out pruned/smollm2-bi-3

    Example: strata prune smollm2 --by sublayers --remove 6 --out pruned/smollm2-sublayers-6

    Example: strata prune Qwen/Qwen3-30B-A3B --kind experts --by load --remove 16 --out pruned/experts

    Example: strata prune smollm2 --without "heads 2.1,2.4,7.0" --out pruned/smollm2-heads
    """
    request = PruneRequest(by, method, remove, ratio, blocks, experts, without, params, kinds_of(kind) if kind else (), cut)
    request.check()
    if out is None and method in (*IN_MEMORY, *installed("strata.methods")):
        if ratio is None or any(value is not None for value in (remove, blocks, experts)):
            raise StrataError(f"--method {method} removes a share of the block parameters: give --ratio 0.25 alone")
        text, read = windows_of(corpus, tokens, window, seed), reader(model, device, dtype, revision, weights)
        _measure(read(), text, method, ratio, max_nll_increase, as_json)
        return
    out = out and require_empty(out.expanduser())
    request.check_written()
    text, read = windows_of(corpus, tokens, window, seed), reader(model, device, dtype, revision, weights)
    from adapters.checkpoints.export import Source, choose_format
    from analysis.checkpoints.write import write

    loaded = read()
    source = Source.of(model, loaded.spec, revision)
    format = choose_format(source, format)
    pruning = request.pruning(loaded, source, text)
    rise = pruning.loss.rises[-1]
    if max_nll_increase is not None and not rise.value <= max_nll_increase:
        print(f"strata: {_costs(pruning)}, more than {max_nll_increase:g}: nothing was written", file=sys.stderr)
        raise typer.Exit(1)
    if out is None:
        _show(pruning, pruning.record({}, {}), None, as_json)
        return
    _show(pruning, write(pruning, out, format), out, as_json)


def _costs(pruning: PruningJob) -> str:
    from analysis.checkpoints.card import in_words
    from analysis.display.format import bounded

    return f"without {in_words(pruning.out)} the loss rises by {bounded(pruning.loss.rises[-1])} nats per token"


def _show(pruning: PruningJob, record: dict[str, Any], out: Path | None, as_json: bool) -> None:
    """Prints what was written, or measured where there is no `out`; `record` is what strata.json says."""
    if as_json:
        print(json.dumps(record))
        return
    from analysis.checkpoints.card import zeros
    from analysis.checkpoints.prune import share_of_params
    from analysis.display.format import count, needed, percent
    from reports.cli import output

    documents = count(len(pruning.loss.tokens), "document")
    print(f"{_costs(pruning)}, over {documents}{needed(pruning.loss.rises[-1], len(pruning.loss.tokens))}")
    print(_parameters(record))
    if files := record["files"]:
        print(f"files {files['pruned']:,} of {files['dense']:,} bytes")
    if pruning.left.zeroed:
        print(zeros(pruning))
    if pruning.needed:
        print(f"removed: {percent(share_of_params(pruning.model, pruning.out))} of the parameters of all blocks")
    output.read(pruning, as_json)
    if out is None:
        print("nothing is written: name a folder by --out for a checkpoint")
        return
    written = record["written"]
    off = f"{written['error']} error of its logits {written['error_over_std']:.0e} standard deviations"
    print(f"wrote {visible(out)}; {written['read_by']} reads it, {off}")


def _parameters(record: dict[str, Any]) -> str:
    """How many are left, and how many of these a token meets where there are experts."""
    every, met = record["parameters"], record.get("experts", {}).get("active_parameters")
    active = f", of which a token meets {met['pruned']:,} of {met['dense']:,}" if met else ""
    return f"parameters {every['pruned']:,} of {every['dense']:,}{active}"


def _measure(model: BlockModel, text: Text, method: str, ratio: float, most: float | None, as_json: bool) -> None:
    """Prints what a pruned model lacks and costs; the exit code is 1 when its loss rises by more than `most`."""
    from analysis.display.format import bounded, count
    from analysis.methods.rewrite import measure

    found = measure(model, text, method, ratio)
    size, rise = found.solved.size, found.loss.rises[-1]
    if as_json:
        print(json.dumps(found.record))
    else:
        print(f"{found.method}, level {found.solved.level:g}: the loss rises by {bounded(rise)} nats per token", end=", ")
        print(f"over {count(len(found.loss.tokens), 'document')}")
        active = f", {size.active:.1%} of those that a token meets" if model.spec.has_experts else ""
        print(f"removed: {size.block_params:.1%} of the block parameters, {size.params:.1%} of all{active}, {size.flops:.1%} of the FLOPs")
        print(f"{_parameters(found.record)}; nothing is written, since no stock loader can read it")
        print(text.reading(model).sentence)
    if most is not None and not rise.value <= most:
        print(f"strata: the loss rises by {bounded(rise)} nats per token, more than {most:g}", file=sys.stderr)
        raise typer.Exit(1)


def _indices(blocks: str) -> list[int]:
    try:
        return [int(word) for word in blocks.split(",")]
    except ValueError:
        raise StrataError(f"--blocks {blocks} is not a list of block indices: give, for example, --blocks 21,22,23") from None


def _experts(experts: str) -> frozenset[tuple[int, int]]:
    try:
        return frozenset((int(block), int(expert)) for word in experts.split(",") for block, expert in [word.split(".")])
    except ValueError:
        raise StrataError(
            f"--experts {experts} is not a list of experts: give block and number of each, for example --experts 0.3,1.6"
        ) from None
