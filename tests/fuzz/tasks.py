"""Files of benchmarks, as their makers and the hub lay them out, read by lm_eval's tasks.

The reference reads the same files with the standard library and Arrow: every question must hold what its row says, and questions
that were not mutated must be asked in the same words and have the same right answer as before.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import parquet

from analysis.tasks import load_tasks
from tests.analysis.tasks.makers import table_1
from tests.fuzz.core import Kind
from tests.fuzz.mutations import json_file, raw, shuffled_lines, tree
from tests.fuzz.questions import READERS, piqa
from tests.fuzz.verdicts import Wrong

N = 6  # questions


class Asked(NamedTuple):
    doc: Any
    words: list[tuple]  # of the requests
    gold: Any


def _make(root: Path) -> dict[str, list[Asked]]:
    whole = root / "whole"
    table_1(whole, N)
    rows = pa.Table.from_pylist(piqa(whole))
    (whole / "baber/piqa").mkdir(parents=True)
    parquet.write_table(rows, whole / "baber/piqa/validation-00000-of-00001.parquet", write_page_checksum=True)
    parquet.write_table(rows.slice(0, 2), whole / "baber/piqa/train.parquet", write_page_checksum=True)
    head = "".join(f"  - split: {split}\n    path: {split}*.parquet\n" for split in ("train", "validation"))
    (whole / "baber/piqa/README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{head}---\n")
    for name, (inside, _) in READERS.items():
        shutil.copytree(whole / inside, root / name / inside)
    return {name: _asked(root / name) for name in READERS}


def _asked(folder: Path) -> list[Asked]:
    task = "piqa" if folder.name == "copy" else folder.name
    found = load_tasks(task, shots=0, data=folder)
    return [Asked(dict(item.doc), [instance.args for instance in item.instances], found.gold(item)) for item in found.items]


def _mutate(rng: Random, folder: Path, base: Any) -> str:
    path = rng.choice([path for path in sorted(folder.rglob("*")) if path.is_file()])
    name, draw = path.relative_to(folder), rng.random()
    if draw < 0.05:
        path.unlink()
        return f"{name} is gone"
    data = path.read_bytes()
    if draw < 0.55 and data[:1] in b"{[":
        return f"{name}: {_json(rng, path)}"
    changed, said = shuffled_lines(rng, data) if draw < 0.7 else raw(rng, data)
    path.write_bytes(changed)
    return f"{name}: {said}"


def _json(rng: Random, path: Path) -> str:
    """Another value in a file that is JSON, or in one of its lines."""
    lines = path.read_bytes().rstrip().split(b"\n")
    if len(lines) == 1:
        return json_file(rng, path)
    i = rng.randrange(len(lines))
    found, said = tree(rng, json.loads(lines[i]))
    lines[i] = json.dumps(found).encode()
    path.write_bytes(b"\n".join(lines))
    return f"line {i}, {said}"


def _judge(folder: Path, base: list[Asked]) -> tuple[str, str]:
    got = _asked(folder)
    try:
        want = list(READERS[folder.name][1](folder))
    except Exception as error:  # of json, csv, Arrow, and of rows that lack something
        if got == base:
            return "as before", f"{type(error).__name__}: {error}"
        raise Wrong(f"the questions are others, and the reference says {type(error).__name__}: {error}") from error
    if len(got) != len(want):
        raise Wrong(f"{len(got)} questions, {len(want)} are expected")
    for question, row in zip(got, want, strict=True):
        if different := {key: (question.doc[key], value) for key, value in row.items() if question.doc[key] != value}:
            raise Wrong(f"questions hold {different}")
        known = next((one for one in base if one.doc == question.doc), question)
        if known != question:
            raise Wrong(f"{question} was asked as {known}")
    return "right", ""


KIND = Kind(_make, _mutate, _judge)
