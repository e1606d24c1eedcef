"""Which models are supported, as the tests have shown it: rows of `supported.json`, which `pytest -m '' --record` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

RECORD = Path(__file__).with_name("supported.json")
UNKNOWN = "–"  # not recorded
ABILITIES = {  # of a model_type, and what the tests of it have shown
    "blocks": "logits, streams and every ablation of blocks, mixers and ffns",
    "heads": "ablations of heads, where there are any (RWKV-4 has none)",
    "deletion": "blocks on the weights of fewer heads",
    "pasts": "texts that go on from a past, cut anywhere",
    "export": "`strata prune`, read back",
}


class Row(NamedTuple):
    """One model_type. A cell is "yes", "no", or UNKNOWN where no test of this record has shown it."""

    model_type: str
    variants: tuple[str, ...] = ()
    cells: Mapping[str, str] = dict.fromkeys(ABILITIES, UNKNOWN)  # by ability
    against: str = UNKNOWN
    checkpoint: str = UNKNOWN  # a published one, whose keys and shapes are tested
    recorded: str = UNKNOWN  # version and date
    reasons: tuple[str, ...] = ()  # why a cell says no


def rows(record: Path = RECORD) -> list[Row]:
    """Of every model_type that comes with the project."""
    return [_row(name, found) for name, found in sorted(json.loads(record.read_text(encoding="utf-8")).items())]


def _row(name: str, found: Mapping | None) -> Row:
    if not found:
        return Row(name)
    said = {ability: found["shows"].get(ability, 0) for ability in ABILITIES}  # number of tests, or why not
    return Row(
        name,
        tuple(found["variants"]),
        {ability: "no" if isinstance(n, str) else "yes" if n else UNKNOWN for ability, n in said.items()},
        found["against"] or UNKNOWN,
        found["checkpoint"] or UNKNOWN,
        f"{found['version']}, {found['date']}",
        tuple(f"{ability}: {n}" for ability, n in said.items() if isinstance(n, str)),
    )


def cells(row: Row) -> list[str]:
    """As HEADER names them."""
    return [row.model_type, ", ".join(row.variants) or UNKNOWN, *row.cells.values(), row.against, row.checkpoint, row.recorded]


HEADER = ("model_type", "variants", *ABILITIES, "equal to", "published keys", "recorded")


def page(found: Sequence[Row]) -> str:
    """The contents of docs/models.md."""
    lines = ["| " + " | ".join(line) + " |" for line in (HEADER, ("---",) * len(HEADER), *map(cells, found))]
    why = [f"- {row.model_type}, {reason}" for row in found for reason in row.reasons]
    return "\n".join(
        [
            "# Models",
            "",
            "Which `model_type` of config.json is supported. A cell is filled only by tests that passed, at the version and date of its",
            "row, on tiny random models of the variants that it names; `strata check MODEL` does the same for one checkpoint.",
            "This page and `strata models --supported` are made from one record, by `pytest -m '' --record tests/adapters`.",
            "",
            *lines,
            "",
            *(f"- *{ability}*: {what}" for ability, what in ABILITIES.items()),
            f"- {UNKNOWN}: not recorded",
            "- *equal to*: what computes the same numbers, and is not part of the project",
            "- *published keys*: a checkpoint whose list of keys, shapes and number of parameters are in the tests",
            *(["", "Where a cell says no:", "", *why] if why else []),
            "",
        ]
    )
