"""The explorer of a report's HTML: for each model a section where a reader picks parts and sees what was measured without them.

Everything stands there as tables, too, and explorer.js draws from the same numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from html import escape as text

import pandas as pd

from adapters.errors import visible
from analysis.display.format import as_csv, bounded, count, escape, file_name, number, percent
from analysis.removal.explored import Explored, Measured, Reading
from reports.pieces import Piece
from reports.screen import offered

INTRODUCTION = """# Explorer

Pick blocks, sublayers, heads or experts of a model, or follow a removal order. What was measured comes first, with its 95\u00a0%
interval. The effects of single removals do not add up, so their sum is never shown alone: beside it stands by how much such sums
missed what was measured, on sets that save about as much."""
NO_SCRIPT = "<noscript><p>Picking needs JavaScript, which is off; all numbers are in the tables below.</p></noscript>"
COLUMNS = ("without", "block parameters saved", "rise in loss (nats per token)", "95\u00a0% interval", "differs significantly", "order")
FILE = ("without", "block parameters saved", "rise in loss", "ci_low", "ci_high", "significant", "order")  # columns, all digits
FLAGS = {True: "yes", False: "no", None: ""}


def explorer(models: Sequence[Explored]) -> list[Piece]:
    """For the HTML alone; nothing where nothing was measured."""
    there = [model for model in models if any(reading.sets for reading in model.readings)]
    sections = [Piece(f"## {escape(model.model)}", html=section(model)) for model in there]
    return [Piece(INTRODUCTION, html=NO_SCRIPT), *sections] if sections else []


def section(model: Explored) -> str:
    """The numbers for the script, and as tables."""
    n = len({one.out for reading in model.readings for one in reading.sets})
    names = (f"explorer--{file_name(model.model)}--{i}.csv" for i in range(1, 1 + len(model.readings)))
    tables = "".join(_table(reading, name) for reading, name in zip(model.readings, names, strict=True) if reading.sets)
    return (
        f'<div class="explorer"><script type="application/json">{_json(model)}</script>'
        f"<details><summary>All {count(n, 'measured set')} of parts as tables</summary>{tables}</details></div>"
    )


def _json(model: Explored) -> str:
    """As JSON that no element ends within, whatever a name holds: nothing in it is markup."""
    data = {
        "model": visible(model.model),
        "parts": model.parts,
        "readings": [
            {
                "text": visible(reading.text),
                "documents": reading.n_documents,
                "sets": [[one.out, one.saved, *one.rise, one.significant, bounded(one.rise)] for one in reading.sets],
                "orders": [[visible(order.title), order.outs] for order in reading.orders],
            }
            for reading in model.readings
        ],
    }
    said = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return said.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _table(reading: Reading, name: str) -> str:
    """With its caption and as a file of this name."""
    along: dict[str, list[str]] = {}
    for order in reading.orders:
        for out in order.outs:
            along.setdefault(out, []).append(visible(order.title))
    head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    rows = "".join(f"<tr>{''.join(_cells(one, along.get(one.out, [])))}</tr>" for one in reading.sets)
    sets = [(one.out, one.saved, *one.rise, FLAGS[one.significant], "; ".join(along.get(one.out, []))) for one in reading.sets]
    file = offered(as_csv(pd.DataFrame(sets, columns=list(FILE))).encode(), name)
    return (
        f'<figure class="tabular"><figcaption>{text(visible(reading.text))} {file}</figcaption><div class="scroll"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></figure>"
    )


def _cells(one: Measured, along: Sequence[str]) -> Iterator[str]:
    value, low, high = one.rise
    interval = "" if low is None else f"{number(low)} to {number(high)}"
    yield f'<th scope="row">{text(one.out)}</th>'
    for cell in (percent(one.saved), number(value), interval, FLAGS[one.significant], "; ".join(along)):
        yield f"<td>{text(cell)}</td>"
