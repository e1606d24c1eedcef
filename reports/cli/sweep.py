"""`strata sweep`, `importance`, `spans` and `models`: studies from the command line."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapters.errors import StrataError
from reports.cli import names, studies
from reports.cli.machines import RayOption, ShardOption, Spread, WorkersOption, handed_out, job_of, measure
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
    Weights,
    WindowSize,
    bar,
    kinds_of,
    required,
    windows_of,
)
from reports.cli.tasks import Data, Limit, MaxTokens, RunCode, Shots, sweep_task

if TYPE_CHECKING:
    from analysis.control.study import ControlledSweep
    from analysis.runs.sweep_run import SweepStudy

Swept = Annotated[
    str,
    typer.Option(
        help="What is removed, one at a time: blocks (layers), mixers (attention), ffns (mlp), heads, "
        "kv_groups (heads that share keys and values), experts; separated by commas."
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
Control = Annotated[
    bool,
    typer.Option(
        "--control/--no-control",
        help="Also take gradients on more documents than are swept, up to 5 times as many (20 from 24 documents on), and narrow the "
        "intervals by what these say; a pilot on 12 others decides for which kinds. It pays for heads, and for all kinds at once.",
    ),
]
Task = Annotated[str | None, typer.Option(help="A benchmark instead of a text: see `strata tasks list`.", show_default=False)]


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
    control: Control = False,
    until_resolved: Margin = None,
    task: Task = None,
    shots: Shots = None,
    limit: Limit = None,
    data: Data = None,
    run_code: RunCode = False,
    max_tokens: MaxTokens = None,
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
    """Perplexity, or with --task a benchmark, of a model without each of its blocks, mixers, ffns, heads or experts.

    Example: strata sweep smollm2 --kind blocks --tokens 2048 --out runs/blocks
    """
    out, kinds, room = required(out, dry_run or (as_json and shard is None)), kinds_of(kind), memory and memory << 20
    edits = [word.strip() for word in edit.split(",")]
    if task is not None:
        if edit != "zero" or until_resolved is not None or control:
            raise StrataError("--control, --edit and --until-resolved are for text only: leave them out, or --task")
        asked: dict[str, Any] = {"task": task, "shots": shots, "limit": limit, "seed": seed, "data": data, "run_code": run_code}
        make = studies.task_study(**asked, kinds=kinds, memory=room, max_tokens=max_tokens)
        sweep_task(job_of(model, device, dtype, revision, weights, make), task, out, Spread(shard, ray, workers), dry_run, as_json)
        return
    text = windows_of(corpus, tokens, window, seed or 0)
    if control and ((shard, ray, until_resolved) != (None, None, None) or "," in device or handed_out()):
        raise StrataError(
            "--control takes its decisions on one device: leave it out, or --shard, --ray, several devices and --until-resolved"
        )
    swept = partial(studies.sweep, kinds=kinds, edits=edits, text=text, kl=kl, memory=room, control=control)
    job = job_of(model, device, dtype, revision, weights, swept)
    from analysis.runs import sequential
    from reports.cli import output

    if dry_run:
        from reports.cli import dry_run as tell

        check = None if until_resolved is None else lambda study: sequential.opened(study, until_resolved, out)
        tell.swept(tell.study_of(job, out, check), as_json)
    elif until_resolved is not None:
        if (shard, ray) != (None, None) or "," in device:
            raise StrataError("--until-resolved takes its decisions over all documents, on one device: leave it out, or --shard and --ray")
        study = job.study()
        with bar(f"decisions on {model}", text.documents) as advance:
            outcome = sequential.until_resolved(study, until_resolved, out, advance)
        output.outcome(outcome, out, as_json)
        output.read(study, as_json)
    elif found := measure(job, out, Spread(shard, ray, workers), f"sweep of {model}", _steps):
        table, study = found
        output.effects(table, out, as_json)
        if control and not as_json:
            print(study.outcome(out).sentence)
        output.read(study, as_json)


def _steps(study: SweepStudy | ControlledSweep) -> int:
    """What its progress counts up to."""
    from analysis.runs.sweep_run import SweepStudy

    return study.steps * study.text.documents if isinstance(study, SweepStudy) else study.total


def importance(
    model: Model,
    metric: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(names.METRICS)}, or what a package adds, and of experts {' and '.join(names.EXPERT_METRICS)}; "
            "separated by commas, or all."
        ),
    ] = "bi",
    kind: Annotated[str, typer.Option(help="Parts to measure: blocks, mixers, ffns, heads, experts; separated by commas.")] = "blocks",
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
    weights: Weights = "auto",
    shard: ShardOption = None,
    ray: RayOption = None,
    workers: WorkersOption = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Importance of every block, mixer, ffn, head or expert from plain passes over calibration text.

    Example: strata importance smollm2 --metric bi,taylor --kind blocks,mixers,ffns --out runs/importance
    """
    out = required(out, dry_run or (as_json and shard is None))
    text = windows_of(corpus, tokens, window, seed, split="calibration")
    from analysis.metrics.metrics import EXPERT_METRICS, METRICS
    from reports.cli import output

    of_experts = EXPERT_METRICS if kinds_of(kind) == ["experts"] else ()
    metrics = (*METRICS, *of_experts, "taylor") if metric == "all" else tuple(metric.split(","))
    make = partial(studies.importance, metrics=metrics, kinds=kinds_of(kind), text=text, first_token=first_token)
    job = job_of(model, device, dtype, revision, weights, make)
    if dry_run:
        from reports.cli import dry_run as tell

        tell.passed(tell.study_of(job, out), as_json)
    elif found := measure(job, out, Spread(shard, ray, workers), f"importance in {model}", lambda study: study.text.documents):
        table, study = found
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
    weights: Weights = "auto",
    shard: ShardOption = None,
    ray: RayOption = None,
    workers: WorkersOption = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """How far each contiguous span of blocks turns the stream, on calibration text: the angle as a share of a half turn.

    Example: strata spans smollm2 --out runs/spans
    """
    out = required(out, dry_run or (as_json and shard is None))
    text = windows_of(corpus, tokens, window, seed, split="calibration")
    from reports.cli import output

    job = job_of(model, device, dtype, revision, weights, partial(studies.spans, text=text))
    if dry_run:
        from reports.cli import dry_run as tell

        tell.passed(tell.study_of(job, out), as_json)
    elif found := measure(job, out, Spread(shard, ray, workers), f"spans of {model}", lambda study: study.text.documents):
        table, study = found
        output.spans(table, out, as_json)
        output.read(study, as_json)
