"""`strata sweep`, `importance`, `spans` and `models`: studies from the command line."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from adapters.catalogue import titles
from adapters.errors import StrataError
from adapters.registry import load
from analysis import sequential
from analysis.ablation import singles
from analysis.budgets import cost, speed
from analysis.importance import METRICS
from analysis.importance.spans import SpanStudy, straightest
from analysis.options import (
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
    required,
    windows_of,
)
from analysis.study import ImportanceStudy, SweepStudy
from analysis.tasks import SEED, load_tasks
from analysis.tasks.commands import Data, Limit, Shots, sweep_task


def models(as_json: AsJson = False) -> None:
    """List the models that come without a hub.

    Example: strata models
    """
    if as_json:
        print(json.dumps(titles()))
        return
    for name, title in titles().items():
        Console().print(f"[bold]{name}[/]  {title}")
    Console().print("Any Llama-like folder, .gguf file or hub id works too, for example HuggingFaceTB/SmolLM2-360M.")


def sweep(
    model: Model,
    kind: Annotated[
        str,
        typer.Option(
            help="What is taken out, one at a time: blocks, mixers, ffns, heads, kv_groups (heads that share keys and values); "
            "several with commas."
        ),
    ] = "blocks",
    fill: Annotated[
        str, typer.Option(help="What a head leaves behind: zero, or its mean over as much calibration text of the corpus.")
    ] = "zero",
    out: Out = None,
    tokens: Tokens = 2048,
    window: WindowSize = 128,
    corpus: Corpus = "texts",
    seed: Seed = 0,
    memory: Annotated[int | None, typer.Option(min=1, help="MB beside the model.", show_default=False)] = None,
    kl: Annotated[bool, typer.Option("--kl/--no-kl", help="Also the divergence from the dense model.")] = True,
    until_resolved: Annotated[
        float | None,
        typer.Option(
            help="A margin in nats per token. Documents, up to --tokens, are added only for ablations that can neither be told from the "
            "dense model nor equal it within the margin yet; errors are held to 5 % over all ablations and looks.",
            show_default=False,
        ),
    ] = None,
    task: Annotated[str | None, typer.Option(help="A benchmark instead of a text: see `strata tasks list`.", show_default=False)] = None,
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
    out = required(out, dry_run)
    if task is not None:
        if dry_run:
            raise StrataError("--dry-run counts text only: leave out --task, or --dry-run")
        if fill != "zero" or until_resolved is not None:
            raise StrataError("--fill and --until-resolved are for text only: leave them out, or --task")
        tasks = load_tasks(task, shots=shots, limit=limit, seed=seed or SEED, data=data)
        loaded = load(model, device=device, dtype=dtype, revision=revision)
        sweep_task(loaded, kind.split(","), tasks, out, memory and memory << 20, as_json)
        return
    text = windows_of(corpus, tokens, window, seed)
    loaded = load(model, device=device, dtype=dtype, revision=revision)
    calibration = replace(text, split="calibration").at_most(text.documents, loaded) if fill == "mean" else None
    options: dict[str, Any] = {"kl": kl, "memory": memory and memory << 20, "fill": fill, "calibration": calibration}
    study = SweepStudy.of(loaded, singles(loaded.spec, kind.split(",")), text, **options)
    if dry_run:
        _show_cost(study, as_json)
    elif until_resolved is not None:
        with bar(f"decisions on {model}", text.documents) as advance:
            found = sequential.until_resolved(study, until_resolved, out, advance)
        _show_outcome(found, out, as_json)
    else:
        with bar(f"sweep of {model}", study.steps * text.documents) as advance:
            table = study.run(out, advance)
        _show(table, out, as_json)


def importance(
    model: Model,
    metric: Annotated[str, typer.Option(help=f"{', '.join((*METRICS, 'taylor'))}; several with commas, or all of them: all.")] = "bi",
    kind: Annotated[str, typer.Option(help="What is measured: blocks, mixers, ffns, heads; several with commas.")] = "blocks",
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
    kinds = tuple(kind.split(","))
    metrics = (*METRICS, "taylor") if metric == "all" else tuple(metric.split(","))
    study = ImportanceStudy(load(model, device=device, dtype=dtype, revision=revision), text, metrics, kinds, first_token)
    study.check()
    if dry_run:
        _show_reading(study, as_json)
        return
    with bar(f"importance in {model}", text.documents) as advance:
        table = study.run(out, advance)
    _show(table, out, as_json)


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
    study = SpanStudy(load(model, device=device, dtype=dtype, revision=revision), text)
    with bar(f"spans of {model}", text.documents) as advance:
        table = study.run(out, advance)
    if as_json:
        print(table.to_json(orient="records"))
        return
    printed = Table("blocks", "span", "angle at the last token", "95 % interval", title="the straightest span of each length")
    for row in straightest(table).to_dict("records"):
        last = row["start"] + row["length"] - 1
        printed.add_row(str(row["length"]), f"{row['start']} to {last}", f"{row['value']:.4f}", _interval(row))
    Console().print(printed)
    print(f"wrote {out / 'summary.csv'}")


def _show_cost(study: SweepStudy, as_json: bool) -> None:
    found = cost(study.model, study.plan, study.text.documents, study.text.window, study.memory)
    if as_json:
        print(json.dumps(asdict(found)))
        return
    n = len(study.plan.ablations)
    print(f"{n} models ({n - 1} ablations and the dense one) on {study.text.documents} documents, {found.tokens:,} tokens")
    print(f"rows through mixers {found.mixer_rows:,} and ffns {found.ffn_rows:,} a document; one by one it would be {_naive(study):,}")
    print(f"memory beside the model up to {found.memory / 2**20:,.0f} MB, about {found.seconds:,.0f} s on this machine")


def _show_reading(study: ImportanceStudy, as_json: bool) -> None:
    tokens = study.text.documents * study.text.window
    found = {
        "documents": study.text.documents,
        "tokens": tokens,
        "seconds": study.flops_per_token * tokens / speed(study.model, study.text.window),
    }
    if as_json:
        print(json.dumps(found))
        return
    print(f"{', '.join(study.metrics)} of {', '.join(study.kinds)}")
    print(f"{found['documents']} documents, {tokens:,} tokens, about {found['seconds']:,.0f} s on this machine")


def _show_outcome(found: sequential.Outcome, out: Path, as_json: bool) -> None:
    found.table.to_csv(out / "decisions.csv", index=False)
    if as_json:
        print(found.table.to_json(orient="records"))
        return
    print(found.sentence)
    print(f"wrote {out / 'decisions.csv'}")


def _naive(study: SweepStudy) -> int:
    return len(study.plan.ablations) * len(study.plan.spec.blocks)


def _interval(row: Mapping[Hashable, Any]) -> str:
    return "" if pd.isna(row["ci_low"]) else f"{row['ci_low']:.4f} to {row['ci_high']:.4f}"


def _show(table: pd.DataFrame, out: Path, as_json: bool) -> None:
    if as_json:
        print(table.to_json(orient="records"))
        return
    value = "delta_nll" if "delta_nll" in set(table["metric"]) else str(table["metric"].iloc[0])
    rows = table[(table["metric"] == value) & (table["kind"] != "dense")].sort_values("value", ascending=False)
    shown = rows if len(rows) <= 40 else pd.concat([rows.head(10), rows.tail(10)])
    printed = Table(
        "kind", "block", "head", value, "95 % interval", title="most important first" + (", both ends" if len(rows) > 40 else "")
    )
    for row in shown.to_dict("records"):
        place = ("" if pd.isna(row[c]) else str(row[c]) for c in ("block", "head"))
        printed.add_row(row["kind"], *place, f"{row['value']:.4f}", _interval(row))
    Console().print(printed)
    for row in table[(table["kind"] == "dense") & (table["metric"] == "ppl")].to_dict("records"):
        print(f"dense perplexity {row['value']:.2f} over {row['n_documents']} documents, {row['n_tokens']:,} tokens")
    print(f"wrote {out / 'summary.csv'}")
