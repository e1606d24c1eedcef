"""Output folders that a command goes on with: manifest, records, table, removal path and chosen sections.

A sweep that goes on must end in the table of one that was not interrupted. A record that another reader takes for whole counts as
it is: nothing but its form tells a number from another.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest

from analysis.removal import search
from analysis.removal.orders import ORDERS
from analysis.runs.budgets import Budget
from analysis.runs.folder import Folder
from analysis.runs.settings import RunConfig
from analysis.runs.sweep_run import SweepStudy, sweep_table
from analysis.runs.tables import as_csv
from reports.sections import SECTIONS, Choice, kept
from tests.analysis.runs.test_run import study
from tests.fuzz.core import Kind
from tests.fuzz.mutations import json_file, raw, shuffled_lines, tree
from tests.fuzz.records import COUNTS, records
from tests.fuzz.verdicts import Wrong
from tests.reference.models import save_reader

MODELS = ["smollm2", "zoo-llama-0"]
REQUEST = {"models": MODELS, "seed": 0}
KNOWN = [section.question for section in SECTIONS]
CHOSEN = [Choice(model, question, 12, 128, 1.5, held=i < 2) for model in MODELS for i, question in enumerate(KNOWN)]

Judge = Callable[[Path], tuple[str, str]]


class Sums(NamedTuple):
    study: SweepStudy
    names: list[str]  # of the documents
    scores: dict[str, np.ndarray]


def _make(root: Path) -> dict[str, Judge]:
    place = root / "model"
    place.mkdir()
    save_reader(place)
    lines = (f"Line {i} of this text says that {i} times {i} is {i * i}, and no other line says so.\n" for i in range(4000))
    (place / "text.txt").write_text("".join(lines))
    sums = _sweep(place, root / "sweep")
    find = partial(_find, sums.study)
    (path,) = [find(root / "order")]
    (root / "report").mkdir()
    with _report(root / "report").writing({}):
        kept(_report(root / "report"), MODELS, lambda: CHOSEN)
    return {"sweep": partial(_judge_sweep, sums), "order": partial(_judge_order, find, path), "report": _judge_report}


def _sweep(place: Path, out: Path) -> Sums:
    made = study(place)
    made.run(out)
    return Sums(made, [window.id for window in made.text.windows(made.model)], made.scores(out))


def _mutate(rng: Random, folder: Path, base: Any) -> str:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"]
    path, draw = rng.choice(files), rng.random()
    name = path.relative_to(folder)
    if draw < 0.08:
        path.unlink()
        if rng.random() < 0.5:
            path.symlink_to("nowhere") if rng.random() < 0.5 else path.mkdir()
        return f"{name} is gone"
    if draw < 0.12:
        added = path.with_name(rng.choice(["x.jsonl", ".manifest.json.1", "notes.txt", "look-0", f"{path.name}~"]))
        shutil.copy(path, added)
        return f"{name} is also {added.name}"
    if path.suffix == ".json":
        return json_file(rng, path)
    data = path.read_bytes()
    if path.suffix == ".jsonl" and rng.random() < 0.5:
        changed, said = _record(rng, data)
    else:
        changed, said = shuffled_lines(rng, data) if rng.random() < 0.4 else raw(rng, data)
    path.write_bytes(changed)
    return f"{name}: {said}"


def _record(rng: Random, data: bytes) -> tuple[bytes, str]:
    """Another value in one of the lines."""
    lines = data.split(b"\n")
    i = rng.choice([i for i, line in enumerate(lines) if line])
    found, said = tree(rng, json.loads(lines[i]))
    lines[i] = json.dumps(found).encode()
    return b"\n".join(lines), f"line {i}, {said}"


def _judge_sweep(sums: Sums, folder: Path) -> tuple[str, str]:
    read, asked = records(folder, sums.study.open(folder).key), [json.dumps(ablation.to_json()) for ablation in sums.study.plan.ablations]
    found = {name: values.copy() for name, values in sums.scores.items()}
    for metric, values in found.items():
        for place in np.ndindex(values.shape):
            ablation = None if metric in COUNTS else asked[place[0]]
            values[place] = read.get((metric, ablation, sums.names[place[-1]]), values[place])
    want = as_csv(sweep_table(sums.study.plan, found, sums.study.text))
    got = as_csv(sums.study.run(folder))
    if got != want:
        raise Wrong(f"the table has {_differing(got, want)}")
    if (there := (folder / "summary.csv").read_text(encoding="utf-8")) != want:
        raise Wrong(f"summary.csv has {_differing(there, want)}")
    return "right", ""


def _differing(got: str, want: str) -> str:
    a, b = got.split("\n"), want.split("\n")
    return next((f"{x!r} for {y!r}" for x, y in zip(a, b, strict=False) if x != y), f"{len(a)} lines for {len(b)}")


def _find(made: SweepStudy, out: Path) -> list[list[int]]:
    """Blocks that are out, step by step, by the greedy order alone."""
    setting = RunConfig(Budget(24, 4, None), out, made.text.corpus)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "ORDERS", {"greedy": ORDERS["greedy"]})
        paths = search.find_paths(made.model, setting.text(4).at_most(4, made.model), setting, 1e12).paths
    return [sorted(ablation.blocks) for ablation in paths["greedy"]]


def _judge_order(find: Callable[[Path], list[list[int]]], path: list[list[int]], folder: Path) -> tuple[str, str]:
    try:
        (file,) = folder.glob("*/path.json")
        said = [sorted(step.get("blocks", [])) for step in json.loads(file.read_text())]
    except (ValueError, OSError, AttributeError, TypeError, RecursionError):
        said = []
    got = find(folder)
    if got == path:
        return "right", ""
    if got[: len(said)] == said and all(len(set(step)) == n and set(step) < set(range(len(path) + 1)) for n, step in enumerate(got)):
        return "documented", "another path of the same order is taken as it is: nothing tells it from the one that was found"
    raise Wrong(f"the path is {got}, {path} was found and {said} kept")


def _report(folder: Path) -> Folder:
    return Folder(folder, REQUEST, "report", "request", made="notebooks")


def _judge_report(folder: Path) -> tuple[str, str]:
    got = kept(_report(folder), MODELS, lambda: CHOSEN)
    said = json.loads((folder / "sections.json").read_text())
    want = [Choice(**choice) for choice in said["sections"]]
    if got != want:
        raise Wrong(f"{got} for {want}")
    if any(choice.question not in KNOWN or choice.model not in MODELS or not choice.seconds >= 0 for choice in got):
        raise Wrong(f"{got} are no sections")
    for choice in got:
        if choice.notebook not in {section.notebook for section in SECTIONS}:
            raise Wrong(f"{choice.notebook} is no notebook")
    return "right", ""


KIND = Kind(_make, _mutate, lambda folder, judge: judge(folder))
