"""`strata evaluate`: how well a model reads text, or answers a benchmark, with all that it has."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer

from reports.cli import studies
from reports.cli.machines import RayOption, ShardOption, Spread, WorkersOption, job_of, measure
from reports.cli.options import (
    AsJson,
    Corpus,
    Device,
    DryRun,
    Dtype,
    Model,
    Out,
    Revision,
    Tokens,
    Weights,
    WindowSize,
    required,
    windows_of,
)
from reports.cli.tasks import Data, Limit, MaxTokens, RunCode, Shots

Task = Annotated[str | None, typer.Option(help="A benchmark (`strata tasks list`) instead of a text.", show_default=False)]


def evaluate(
    model: Model,
    task: Task = None,
    out: Out = None,
    tokens: Tokens = 2048,
    window: WindowSize = 128,
    corpus: Corpus = "texts",
    seed: Annotated[int | None, typer.Option(min=0, help="Chooses documents and windows (0), or a task's examples (1234).")] = None,
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
    """Perplexity of a model, or with --task its score on a benchmark; nothing is taken out of it.

    With --out it is a run, which `sweep` of the same text goes on with.

    Example: strata evaluate smollm2 --task piqa --data texts --limit 100
    """
    from reports.cli import output

    folder, spread = required(out, optional=dry_run or shard is None), Spread(shard, ray, workers)
    if task is None:
        text = windows_of(corpus, tokens, window, seed or 0)
        make: Any = partial(studies.sweep, kinds=[], edits=["zero"], text=text, kl=False, memory=None)
    else:
        asked: dict[str, Any] = {"task": task, "shots": shots, "limit": limit, "seed": seed, "data": data, "run_code": run_code}
        make = studies.task_study(**asked, kinds=[], memory=None, max_tokens=max_tokens)
    job = job_of(model, device, dtype, revision, weights, make)
    title = f"{task or 'text'} read by {model}"
    if dry_run:
        from reports.cli import dry_run as tell

        (tell.asked if task else tell.swept)(tell.study_of(job, folder), as_json)
    elif found := measure(job, folder, spread, title, lambda study: study.steps * (1 if task else study.text.documents)):
        output.evaluated(*found, folder if out else None, as_json)
