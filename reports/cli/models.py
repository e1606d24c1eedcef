"""`strata models`: what comes without a hub, and which models are supported."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from adapters.catalogue import titles
from adapters.plugins import installed
from adapters.supported import ABILITIES, gpu_sentence, rows
from reports.cli.options import AsJson

Supported = Annotated[bool, typer.Option("--supported", help="Which model_types are supported, and what of each is verified.")]


def models(supported: Supported = False, as_json: AsJson = False) -> None:
    """List the models that come without a hub, or with --supported all that can be read.

    Example: strata models --supported
    """
    if as_json:
        print(json.dumps([row._asdict() for row in rows()] if supported else titles()))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not supported:
        for name, title in titles().items():
            console.print(f"[bold]{name}[/]  {title}")
        console.print("Any folder, .gguf file or hub id of a model_type that `strata models --supported` lists works too,")
        console.print("for example HuggingFaceTB/SmolLM2-360M.")
        return
    table = Table("model_type", *ABILITIES, "equal to", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for row in rows():
        table.add_row(row.model_type, *row.cells.values(), row.against)
    console.print(table)
    console.print("By model_type of config.json. A cell is filled by tests that passed; variants and checkpoints: --json, docs/models.md.")
    console.print(gpu_sentence())
    for row in rows():
        for reason in row.reasons:
            console.print(f"{row.model_type}, {reason}")
    if others := installed("strata.families"):
        console.print(f"Families of other distributions, which none of this records: {', '.join(others)}")
