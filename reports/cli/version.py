"""`strata --version`."""

from __future__ import annotations

from typing import Annotated

import typer


def options(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    """Measures how redundant a language model is, layer by layer and head by head."""
    if version:
        from importlib.metadata import version as of

        print(f"strata {of('llm-strata')}")
        raise typer.Exit
