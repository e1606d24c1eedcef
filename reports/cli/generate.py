"""`strata generate`: what a model writes behind a prompt, with all of its blocks and without some."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapters.ablation import Ablation
from adapters.errors import StrataError, visible
from reports.cli import studies
from reports.cli.machines import RayOption, ShardOption, Spread, WorkersOption, job_of, measure
from reports.cli.options import (
    ALIASES,
    AsJson,
    Corpus,
    Device,
    DryRun,
    Dtype,
    Model,
    Out,
    Revision,
    Weights,
    WindowSize,
    kinds_of,
    reader,
    required,
    windows_of,
)

if TYPE_CHECKING:
    from adapters.base import BlockModel
    from analysis.engine.sampling import Sampling

Without = Annotated[
    str,
    typer.Option(
        help="Blocks to remove together, for example 3,7; other parts by their names: 'blocks 3,7; heads 2.1; mixers 4; ffns 5'.",
        show_default=False,
    ),
]
PromptText = Annotated[str | None, typer.Option("--prompt", help="The text that goes on.", show_default=False)]
MaxTokens = Annotated[int, typer.Option("--max-tokens", min=1, help="New tokens at most.")]
Stop = Annotated[list[str] | None, typer.Option(help="A text that ends what is written; repeat it for several.", show_default=False)]
Kind = Annotated[str | None, typer.Option(help="Parts that are removed one at a time, as by sweep: blocks where nothing is said.")]
Documents = Annotated[int, typer.Option(min=1, help="Documents of the corpus whose beginnings go on.")]
EITHER = (
    "text goes on behind one --prompt and is printed, or behind the beginnings of documents, into --out or as --json: give one of them "
    "(--out, --kind, --shard and --ray are for documents)"
)


def generate(
    model: Model,
    prompt: PromptText = None,
    without: Without = "",
    max_tokens: MaxTokens = 64,
    stop: Stop = None,
    temperature: Annotated[float, typer.Option(min=0, help="0: the likeliest tokens; else sampled.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Sample from the likeliest tokens that together have this probability.")] = 1.0,
    top_k: Annotated[int, typer.Option(min=0, help="Sample from so many likeliest tokens, 0: all.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of sampled text, and of the documents that are chosen.")] = 0,
    out: Out = None,
    kind: Kind = None,
    documents: Documents = 12,
    window: WindowSize = 64,
    corpus: Corpus = "texts",
    device: Device = "auto",
    dtype: Dtype = "auto",
    revision: Revision = None,
    weights: Weights = "auto",
    shard: ShardOption = None,
    ray: RayOption = None,
    workers: WorkersOption = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Text that a model writes, and what it writes without some of its blocks, heads or sublayers.

    Behind one --prompt it is printed. With --out it is written behind the beginnings of documents, without each part of a --kind or
    without what --without names, and a table says how far the texts agree with the unpruned model's, how they repeat themselves, and their
    loss under the unpruned model.

    Example: strata generate smollm2 --without 3,7 --prompt "Once upon a time" --max-tokens 64

    Example: strata generate smollm2 --kind blocks --documents 12 --out runs/written
    """
    from analysis.engine.sampling import Sampling

    removed, sampling, until = parts(without), Sampling(temperature, top_p, top_k, seed), tuple(stop or ())
    nowhere = dry_run or (as_json and shard is None)  # no folder has to be named
    if (prompt is not None and (out, kind, shard, ray) != (None,) * 4) or (prompt is None and out is None and not nowhere):
        raise StrataError(EITHER)
    if prompt is not None:
        _print(reader(model, device, dtype, revision, weights), prompt, removed, (max_tokens, until, sampling), dry_run, as_json)
        return
    if without and kind is not None:
        raise StrataError("--kind removes parts one at a time, and --without some together: give one of them")
    from reports.cli import output

    text = windows_of(corpus, documents * window, window, seed)
    kinds = [] if without else kinds_of(kind or "blocks")
    options: dict[str, Any] = {"most": max_tokens, "until": until, "sampling": sampling}
    job = job_of(model, device, dtype, revision, weights, partial(studies.beginnings, removed=removed, kinds=kinds, text=text, **options))
    folder, title = required(out, nowhere).absolute(), f"texts of {model}"
    if dry_run:
        from reports.cli import dry_run as tell

        study = tell.study_of(job, folder)
        tell.written(study.writing, f"beginnings of {corpus}", as_json, found=study.cost)
    elif found := measure(job, folder, Spread(shard, ray, workers), title, lambda study: study.steps):
        output.texts(found[0], folder, as_json)


def _print(
    read: Callable[[], BlockModel],
    prompt: str,
    removed: Ablation,
    asked: tuple[int, tuple[str, ...], Sampling],
    dry_run: bool,
    as_json: bool,
) -> None:
    """What is written behind one prompt, with all parts and without the removed ones; with `dry_run` what that takes."""
    from analysis.engine.decoding import decode
    from analysis.engine.plan import plan
    from analysis.engine.row_budget import Prompt
    from analysis.tasks.requests import prompt_ids

    loaded = read()
    work = plan(loaded.spec, [removed])
    prompts, names = [Prompt(prompt_ids(loaded, prompt), *asked)], ["the prompt"]
    if dry_run:
        from analysis.runs.writing import WritingStudy
        from reports.cli import dry_run as tell

        tell.written(WritingStudy(loaded, work, prompts, names), "the prompt", as_json)
        return
    found = sorted(decode(loaded, work, prompts, names=names))
    if as_json:
        rows = [w._asdict() | {"ablation": work.ablations[w.ablation].to_json()} for w in found]
        print(json.dumps([{k: v for k, v in row.items() if k != "prompt"} for row in rows]))
        return
    for written in found:
        ablation = work.ablations[written.ablation]
        print(f"--- {f'without {ablation}' if ablation else 'unpruned'} ({len(written.tokens)} tokens, {ENDINGS[written.why]})")
        print(visible(written.text, keep="\n"))


ENDINGS = {"end": "end of text", "stop": "stop string", "length": "cut at --max-tokens"}


def _in_block(number: str) -> tuple[int, int]:
    block, part = number.split(".")
    return int(block), int(part)


NUMBERS: dict[str, Callable[[str], object]] = {"blocks": int, "mixers": int, "ffns": int, "heads": _in_block, "experts": _in_block}


def parts(words: str) -> Ablation:
    """What `--without` names: numbers of blocks, or kinds with their numbers, as tables show them. Raises StrataError on anything else."""
    found: dict[str, list] = {}
    for part in filter(None, (part.strip() for part in words.split(";"))):
        kind, _, numbers = part.partition(" ") if part[0].isalpha() else ("blocks", "", part)
        kind = ALIASES.get(kind, kind)
        try:
            found.setdefault(kind, []).extend(NUMBERS[kind](number) for number in numbers.split(","))
        except (KeyError, ValueError):
            raise StrataError(
                f"--without {part!r} names no parts: expected blocks as 3,7, or blocks 3,7; mixers 4; ffns 5; heads 2.1; experts 0.3"
            ) from None
    return Ablation.from_json(found)
