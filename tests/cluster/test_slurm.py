"""A real Slurm: an array of four shards of which one is killed and one queued again, and a job behind it that merges."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.slurm import Slurm, until, why_not

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    if why := why_not():
        pytest.skip(why)
    found = Slurm(tmp_path / "slurm")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "strata"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} OMP_NUM_THREADS=1 exec {sys.executable} -m reports.cli.main "$@"\n')
    program.chmod(0o755)
    found.environment["PATH"] = f"{tmp_path / 'bin'}:{found.environment['PATH']}"
    try:
        found.start()
        yield found
    finally:
        found.stop()


def strata(slurm: Slurm, folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["strata", *map(str, words)], env=slurm.environment, cwd=folder, capture_output=True, text=True, check=False)


def logs(folder: Path) -> str:
    return "\n".join(f"{path.name}: {path.read_text()}" for path in sorted(folder.glob("slurm-*.out")))


def test_an_array_loses_nothing(slurm: Slurm, tmp_path: Path, prose: Path) -> None:
    """One task is cancelled and one queued again while they score: merge names what is missing, and a retry of that makes the table."""
    folder = tmp_path / "work"
    folder.mkdir()
    sweep = ["sweep", "zoo-llama-0", "--kind", "heads,blocks", "--corpus", prose, "--tokens", 64 * 64, "--window", 64]
    one = strata(slurm, folder, *sweep, "--out", "one")
    assert one.returncode == 0, one.stderr
    made = strata(slurm, folder, "slurm", "--tasks", 4, "--", *sweep, "--out", "dealt")
    assert made.returncode == 0, made.stderr
    (folder / "job.sh").write_text(made.stdout)
    submitted = subprocess.run(["bash", "job.sh"], env=slurm.environment, cwd=folder, capture_output=True, text=True, check=False)
    assert submitted.returncode == 0, submitted.stderr
    array = submitted.stdout.split(",")[0].removeprefix("array ")

    scores = folder / "dealt" / "scores"
    begun = [scores / f"shard-{index}-of-4.jsonl" for index in range(2)]
    assert until(lambda: all(path.exists() for path in begun), 120), logs(folder)
    slurm("scancel", f"{array}_1")
    slurm("scontrol", "requeue", f"{array}_0")
    assert until(lambda: slurm.states(f"{array}_0")["0"] == "PENDING", 60)
    slurm("scontrol", "update", f"jobid={array}_0", "StartTime=now")
    finished = {"0": "COMPLETED", "1": "CANCELLED", "2": "COMPLETED", "3": "COMPLETED"}
    assert until(lambda: slurm.states(array) == finished, 240), (slurm.states(array), logs(folder))
    merging = str(int(array) + 1)
    assert until(lambda: set(slurm.states(merging).values()) <= {"FAILED", "COMPLETED"}, 120), logs(folder)
    assert "those of shard 1 of 4: run `strata sweep zoo-llama-0" in logs(folder), "afterany: it runs, and says what is missing"
    assert not (folder / "dealt" / "summary.csv").exists()

    again = subprocess.run(["bash", "job.sh", "--array=1"], env=slurm.environment, cwd=folder, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    table = folder / "dealt" / "summary.csv"
    assert until(table.exists, 120), logs(folder)
    assert table.read_bytes() == (folder / "one" / "summary.csv").read_bytes()


def test_a_task_that_reaches_its_limit_is_queued_again(slurm: Slurm, tmp_path: Path, prose: Path) -> None:
    """USR1 comes before the limit: the batch at hand is dropped, the task waits in the queue and goes on from what it has kept."""
    folder = tmp_path / "work"
    folder.mkdir()
    sweep = ["sweep", "zoo-llama-0", "--kind", "heads,blocks", "--corpus", prose, "--tokens", 64 * 64, "--window", 64]
    made = strata(slurm, folder, "slurm", "--tasks", 1, "--", *sweep, "--out", "dealt")
    assert made.returncode == 0, made.stderr
    (folder / "job.sh").write_text(made.stdout)
    submitted = subprocess.run(["bash", "job.sh"], env=slurm.environment, cwd=folder, capture_output=True, text=True, check=False)
    array = submitted.stdout.split(",")[0].removeprefix("array ")
    kept = folder / "dealt" / "scores" / "shard-0-of-1.jsonl"
    assert until(kept.exists, 120), logs(folder)
    slurm("scancel", "--batch", "--signal=USR1", f"{array}_0")  # what --signal sends
    assert until(lambda: slurm.states(array).get("0") == "PENDING", 60), (slurm.states(array), logs(folder))
    before = kept.read_bytes()
    assert b"\n{" in before
    assert "strata: stopped; the scores so far are in" in logs(folder)
    slurm("scontrol", "update", f"jobid={array}_0", "StartTime=now")
    assert until((folder / "dealt" / "summary.csv").exists, 240), logs(folder)
    assert kept.read_bytes().startswith(before)


def test_a_folder_that_a_node_does_not_see(slurm: Slurm, tmp_path: Path, prose: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    made = strata(slurm, folder, "slurm", "--tasks", 2, "--", "spans", "zoo-llama-0", "--corpus", prose, "--out", "dealt")
    (folder / "job.sh").write_text(made.stdout)
    slurm("scontrol", "update", f"nodename={slurm.host}", "state=drain", "reason=test")
    submitted = subprocess.run(["bash", "job.sh"], env=slurm.environment, cwd=folder, capture_output=True, text=True, check=False)
    assert submitted.returncode == 0, submitted.stderr
    shutil.rmtree(folder / "dealt")
    slurm("scontrol", "update", f"nodename={slurm.host}", "state=resume")
    array = submitted.stdout.split(",")[0].removeprefix("array ")
    assert until(lambda: slurm.states(array) == {"0": "FAILED", "1": "FAILED"}, 120), slurm.states(array)
    assert f"{folder / 'dealt'} is not on " in logs(folder)
    assert not (folder / "dealt").exists()
