"""Records of a run as a slow reader takes them: line by line, each checked by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any

COUNTS = ("tokens", "bytes")  # of a document
SCORES = ("nll", "kl")  # of a document and an ablation
Where = tuple[str, str | None, str]  # metric, ablation (None: of COUNTS), document


def records(folder: Path, key: str) -> dict[Where, Any]:
    """By metric, ablation and document, what the first record says that is whole."""
    found: dict[Where, Any] = {}
    for path in sorted(folder.glob("scores/*.jsonl")):
        for line in path.read_bytes().split(b"\n") if path.is_file() else []:
            try:
                record = json.loads(line.decode())
                said = list(_said(record)) if record["key"] == key and len(record) == 4 else []
            except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
                continue
            for where, value in said:
                found.setdefault(where, value)
    return found


def _said(record: dict[str, Any]) -> Iterator[tuple[Where, Any]]:
    """What a record says. Raises ValueError where it is not whole."""
    names, ablations, scores = record["documents"], [_canonical(each) for each in record["ablations"]], record["scores"]
    if type(names) is not list or not all(type(name) is str for name in names) or not {*COUNTS} < {*scores} <= {*COUNTS, *SCORES}:
        raise ValueError
    for metric, values in scores.items():
        rows = [values] if metric in COUNTS else values
        if type(rows) is not list or len(rows) != (1 if metric in COUNTS else len(ablations)):
            raise ValueError
        for ablation, row in zip([None] if metric in COUNTS else ablations, rows, strict=True):
            if type(row) is not list or len(row) != len(names) or not all(_is_score(metric, value) for value in row):
                raise ValueError
            yield from (((metric, ablation, name), value) for name, value in zip(names, row, strict=True))


def _canonical(ablation: Any) -> str:
    """Sorted places by the kind of what is out, in the order of kinds; nothing else."""
    kinds = [kind for kind in ("blocks", "mixers", "ffns", "heads") if kind in ablation]
    if type(ablation) is not dict or list(ablation) != kinds:
        raise ValueError
    for kind, places in ablation.items():
        flat = [number for place in places for number in (place if kind == "heads" else [place])]
        pairs = kind != "heads" or all(type(place) is list and len(place) == 2 for place in places)
        if not places or not pairs or not all(type(n) is int and n >= 0 for n in flat) or places != sorted(places):
            raise ValueError
        if len({json.dumps(place) for place in places}) != len(places):
            raise ValueError
    return json.dumps(ablation)


def _is_score(metric: str, value: Any) -> bool:
    if metric in COUNTS:
        return type(value) is int and 0 < value < 2**63
    return type(value) in (int, float) and isfinite(value)
