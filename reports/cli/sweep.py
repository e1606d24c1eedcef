"""`strata sweep`, `importance`, `spans` and `models`: studies from the command line."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from adapters.catalogue import titles
from adapters.errors import StrataError
from reports.cli import names
from reports.cli.options import (
    AsJson,
    Corpus,
    Device,
    DryRun,
    Dtype,
    Model,
    Out,
    Revision,
    Seed,
    Tokens,
    WindowSize,
    bar,
    kinds_of,
    reader,
    required,
    windows_of,
)
from reports.cli.tasks import Data, Limit, Shots

Swept = Annotated[
    str,
    typer.Option(
        help="What is removed, one at a time: blocks (layers), mixers (attention), ffns (mlp), heads, "
        "kv_groups (heads that share keys and values); separated by commas."
    ),
]
Edit = Annotated[
    str,
    typer.Option(
        help="What replaces a removed part: zero, or its mean over as much calibration text of the corpus (mean); zero,mean for both."
    ),
]
Memory = Annotated[int | None, typer.Option(min=1, help="Memory in MB, beside the model.", show_default=False)]
Divergence = Annotated[bool, typer.Option("--kl/--no-kl", help="Also the KL divergence from the unpruned model.")]
Margin = Annotated[
    float | None,
    typer.Option(
        help="A margin in nats per token. Documents, up to --tokens, are added only for ablations that neither differ significantly "
        "from the unpruned model nor equal it within the margin yet; errors are held to 5 % over all ablations and looks.",
        show_default=False,
    ),
]
Task = Annotated[str | None, typer.Option(help="A benchmark instead of a text: see `strata tasks list`.", show_default=False)]


def models(as_json: AsJson = False) -> None:
    """List the models that come without a hub.

    Example: strata models
    """
    if as_json:
        print(json.dumps(titles()))
        return
    from rich.console import Console

    for name, title in titles().items():
        Console().print(f"[bold]{name}[/]  {title}")
    Console().print("Any Llama-like folder, .gguf file or hub id works too, for example HuggingFaceTB/SmolLM2-360M.")


def sweep(
    model: Model,
    kind: Swept = "blocks",
    edit: Edit = "zero",
    out: Out = None,
    tokens: Tokens = 2048,
    window: WindowSize = 128,
    corpus: Corpus = "texts",
    seed: Annotated[int | None, typer.Option(min=0, help="Chooses documents and windows (0), or a task's examples (1234).")] = None,
    memory: Memory = None,
    kl: Divergence = True,
    until_resolved: Margin = None,
    task: Task = None,
    shots: Shots = None,
    limit: Limit = None,
    data: Data = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    revision: Revision = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Perplexity, or with --task a benchmark, of a model without each of its blocks, mixers, ffns or heads.

    Example: strata sweep smollm2 --kind blocks --tokens 2048 --out runs/blocks
    """
    out, kinds, room = required(out, dry_run), kinds_of(kind), memory and memory << 20
    read = reader(model, device, dtype, revision)  # called when all else is known to be right
    if task is not None:
        if dry_run or edit != "zero" or until_resolved is not None:
            raise StrataError("--dry-run, --edit and --until-resolved are for text only: leave them out, or --task")
        from analysis.tasks import load_tasks
        from reports.cli.tasks import sweep_task

        tasks = load_tasks(task, shots=shots, limit=limit, seed=names.SEED if seed is None else seed, data=data)
        sweep_task(read(), kinds, tasks, out, room, as_json)
        return
    text = windows_of(corpus, tokens, window, seed or 0)
    from analysis.engine.ablations import single_ablations
    from analysis.runs import sequential
    from analysis.runs.sweep_run import SweepStudy
    from reports.cli import output

    loaded = read()
    ablations = single_ablations(loaded.spec, kinds, [word.strip() for word in edit.split(",")])
    calibration = text.calibration(loaded) if any(ablation.edit == "mean" for ablation in ablations) else None
    study = SweepStudy.of(loaded, ablations, text, kl=kl, memory=room, calibration=calibration)
    if dry_run:
        output.work(study, as_json)
    elif until_resolved is not None:
        with bar(f"decisions on {model}", text.documents) as advance:
            found = sequential.until_resolved(study, until_resolved, out, advance)
        output.outcome(found, out, as_json)
        output.read(study, as_json)
    else:
        with bar(f"sweep of {model}", study.steps * text.documents) as advance:
            table = study.run(out, advance)
        output.effects(table, out, as_json)
        output.read(study, as_json)


def importance(
    model: Model,
    metric: Annotated[str, typer.Option(help=f"{', '.join(names.METRICS)}, or what a package adds; separated by commas, or all.")] = "bi",
    kind: Annotated[str, typer.Option(help="Parts to measure: blocks, mixers, ffns, heads; separated by commas.")] = "blocks",
    first_token: Annotated[
        bool,
        typer.Option("--first-token/--no-first-token", help="With the first token of each document, which is often unlike all others."),
    ] = True,
    out: Out = None,
    tokens: Tokens = 2048,
    window: WindowSize = 128,
    corpus: Corpus = "texts",
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    revision: Revision = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Importance of every block, mixer, ffn or head from plain passes over calibration text.

    Example: strata importance smollm2 --metric bi,taylor --kind blocks,mixers,ffns --out runs/importance
    """
    out = required(out, dry_run)
    text = windows_of(corpus, tokens, window, seed, split="calibration")
    read = reader(model, device, dtype, revision)
    from analysis.metrics.metrics import METRICS
    from analysis.metrics.study import ImportanceStudy
    from reports.cli import output

    kinds = tuple(kinds_of(kind))
    metrics = (*METRICS, "taylor") if metric == "all" else tuple(metric.split(","))
    study = ImportanceStudy(read(), text, metrics, kinds, first_token)
    study.check()
    if dry_run:
        output.reading(study, as_json)
        return
    with bar(f"importance in {model}", text.documents) as advance:
        table = study.run(out, advance)
    output.effects(table, out, as_json)
    output.read(study, as_json)


def spans(
    model: Model,
    out: Out = None,
    tokens: Tokens = 2048,
    window: WindowSize = 128,
    corpus: Corpus = "texts",
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    revision: Revision = None,
    as_json: AsJson = False,
) -> None:
    """How far each contiguous span of blocks turns the stream, on calibration text: the angle as a share of a half turn.

    Example: strata spans smollm2 --out runs/spans
    """
    out = required(out, False)
    text = windows_of(corpus, tokens, window, seed, split="calibration")
    read = reader(model, device, dtype, revision)
    from analysis.metrics.spans import SpanStudy
    from reports.cli import output

    study = SpanStudy(read(), text)
    with bar(f"spans of {model}", text.documents) as advance:
        table = study.run(out, advance)
    output.spans(table, out, as_json)
    output.read(study, as_json)
