"""A package of somebody else's, installed beside Strata: its metric and its order in commands, the study of importance and its notebook."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from adapters import load
from analysis.data.batches import Text, batches
from analysis.metrics.metrics import measure
from analysis.runs.read_run import read_run

ROOT = Path(__file__).parents[3]
MODULE = """
def overlap(step):
    return (step.x * step.delta).sum(-1).abs()

def odd_first(calibration):
    n = len(calibration.model.blocks)
    return sorted(range(n), key=lambda block: (block % 2 == 0, block))
"""
POINTS = """
[strata.metrics]
overlap = somebodys:overlap

[strata.orders]
odd_first = somebodys:odd_first
broken = somebodys:missing
"""
COMMANDS = """
import json, sys
from reports.cli.main import main

codes = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["strata", *words]
    try:
        main()
    except SystemExit as stop:
        codes.append(stop.code or 0)
    else:
        codes.append(0)
print("codes", *codes)
"""
STUDY = """
import sys
from pathlib import Path
from adapters import load
from analysis.importance.study import ranking
from analysis.runs.budgets import Budget
from analysis.runs.settings import RunConfig

model, corpus, out = sys.argv[1:]
found = ranking(load(model), RunConfig(Budget(window=16, documents=12, seconds=None), Path(out), corpus))
print(*found.orders, sep="|")
print(found.profiled["overlap"], "|".join(found.agreements["metric"]), found.first_token[0]["metric"].tolist())
"""


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that finds the package, as an installer leaves it."""
    site = tmp_path / "site"
    (site / "somebodys-2.5.dist-info").mkdir(parents=True)
    (site / "somebodys-2.5.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys\nVersion: 2.5\n")
    (site / "somebodys-2.5.dist-info" / "entry_points.txt").write_text(POINTS)
    (site / "somebodys.py").write_text(MODULE)
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (site, ROOT))), "OMP_NUM_THREADS": "1"}


def run(environment: dict[str, str], folder: Path, *words: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *map(str, words)], env=environment, cwd=folder, capture_output=True, text=True)


def test_commands_know_them(installed: dict[str, str], tiny_folder: Path, prose: Path, tmp_path: Path) -> None:
    read = ["--corpus", str(prose), "--tokens", str(12 * 16), "--window", "16"]
    prune = ["prune", str(tiny_folder), *read, "--remove", "1", "--by"]
    commands = [
        ["importance", str(tiny_folder), *read, "--metric", "bi,overlap", "--out", "importance"],
        [*prune, "odd_first", "--out", "pruned"],
        [*prune, "broken", "--out", "again"],
    ]
    done = run(installed, tmp_path, "-c", COMMANDS, json.dumps(commands))
    assert done.stdout.splitlines()[-1] == "codes 0 0 2", done.stderr
    assert done.stderr.splitlines()[-1].startswith("strata: the order 'broken' of the distribution somebodys cannot be used")
    assert not (tmp_path / "again").exists()

    model, text = load(tiny_folder, device="cpu"), Text(corpus=str(prose), split="calibration", documents=12, window=16)
    found: dict = {}
    exec(MODULE, found)
    both = list(batches(text.windows(model), model))
    sums = sum(measure(model, b.ids, b.lengths, [found["overlap"]])["overlap"].sum(1) for b in both)
    result = read_run(tmp_path / "importance")
    assert result.per_document("overlap").sum().to_numpy() == pytest.approx(sums, rel=1e-5)
    assert result.manifest["identity"]["importance"]["metrics"] == [{"name": "overlap", "title": "overlap", "version": "2.5"}]

    record = json.loads((tmp_path / "pruned" / "strata.json").read_text())
    assert record["blocks"]["removed"] == [1]
    assert record["order"]["metric"] == {"name": "odd_first", "title": "odd first", "version": "2.5"}
    assert "in the order of odd first on calibration text" in (tmp_path / "pruned" / "README.md").read_text()


def test_the_study_of_importance_takes_them_in(installed: dict[str, str], tiny_folder: Path, prose: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "-c", STUDY, tiny_folder, prose, "runs")
    assert done.returncode == 0, done.stderr
    orders, rest = done.stdout.splitlines()
    assert "overlap" in orders.split("|")
    assert rest.startswith("overlap ")
    assert rest.count("overlap") == 3


@pytest.mark.long
def test_its_notebook_shows_them(installed: dict[str, str], tiny_folder: Path, prose: Path, tmp_path: Path) -> None:
    given = {"model": tiny_folder, "corpus": prose, "documents": 12, "window": 16}
    words = [word for name, value in given.items() for word in ("-p", name, value)]
    done = run(installed, tmp_path, "-m", "papermill", ROOT / "notebooks" / "importance.ipynb", "out.ipynb", *words)
    assert done.returncode == 0, done.stderr
    shown = json.dumps(json.loads((tmp_path / "out.ipynb").read_text())["cells"])
    assert "| overlap " in shown
