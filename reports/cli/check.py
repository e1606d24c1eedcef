"""`strata check`: a checkpoint of somebody's own against the contract, and against what others compute from it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from adapters.errors import visible
from reports.cli.options import AsJson, Device, Model, Revision, Weights

if TYPE_CHECKING:
    from analysis.checkpoints.check import Checked


def check(model: Model, device: Device = "auto", revision: Revision = None, weights: Weights = "auto", as_json: AsJson = False) -> None:
    """Check that a model is computed right: the contract of all adapters, and its logits as transformers computes them.

    Of a large model a few blocks are read, one of each kind. The exit code is 1 when something differs.
    Example: strata check smollm2
    """
    if sys.stderr.isatty():
        print(visible(f"checking {model} ..."), file=sys.stderr, flush=True)
    from analysis.checkpoints.check import check as of

    found = of(model, device=device, revision=revision, weights=weights)
    if as_json:
        print(json.dumps(asdict(found) | {"same": found.same}))
    else:
        print("\n".join(visible(line) for line in _lines(found)))
    if not found.same:
        raise typer.Exit(1)


def _lines(found: Checked) -> list[str]:
    from adapters.contract import CHECKS
    from analysis.display.format import count, named

    passed = len(CHECKS) - len(found.failed)
    lines = [f"{found.model}: {found.model_type}", f"{passed} of {len(CHECKS)} checks hold on {named('block', found.contract)}"]
    lines += [f"differs: {name}: {what}" for name, what in found.failed.items()]
    if found.error is None:
        return [*lines, "nothing that is installed reads it without code of its own: its logits are compared with none"]
    of = f"logits of {count(len(found.parity), 'block')} as {found.reader} computes them"
    error = f"error {found.error:.0e} of their standard deviation, {found.allowed:.0e} is allowed"
    return [
        *lines,
        f"{of}: {error}" if found.error <= found.allowed else f"differs: {of}: {error}; first in {found.where or 'no known place'}",
    ]
