"""--shard, --device with several, `strata merge` and `strata slurm`, as a user meets them."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from reports.cli.machines import noted_command
from tests.cluster.slurm import until
from tests.reference.command_line import Strata

ROOT = Path(__file__).parents[3]
SCHEDULERS = {  # what launchers leave in the environment of a process that is one of several
    "WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "node17", "MASTER_PORT": "29500",
    "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "4711",
    "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "PMI_RANK": "3", "ACCELERATE_USE_CPU": "0",
}  # fmt: skip


@pytest.fixture
def sweep(tiny_folder: Path, prose: Path) -> list[object]:
    return ["sweep", tiny_folder, "--kind", "heads,blocks", "--corpus", prose, "--tokens", 48 * 32, "--window", 32]


def test_an_array_and_its_merge(strata: Strata, sweep: list[object], tmp_path: Path) -> None:
    """The index is the scheduler's, the number is ours, and without --shard nobody cares who is one of how many."""
    assert strata(*sweep, "--out", tmp_path / "one", **SCHEDULERS).returncode == 0
    out, first = tmp_path / "dealt", strata(*sweep, "--out", tmp_path / "dealt", "--shard", "slurm/2", SLURM_ARRAY_TASK_ID="1")
    assert (first.returncode, first.stdout) == (0, "")
    assert "shard 1/2 is scored" in first.stderr
    missing = strata(*sweep, "--out", out)
    again = shlex.join(["strata", *map(str, sweep), "--out", str(out), "--shard", "0/2"])
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert f"those of shard 0 of 2: run `{again}`; " in missing.stderr
    assert strata(*shlex.split(again)[1:]).returncode == 0
    assert strata("merge", out).returncode == 0
    assert (out / "summary.csv").read_bytes() == (tmp_path / "one" / "summary.csv").read_bytes()
    assert strata(*sweep, "--out", out).stdout == strata("merge", out).stdout


@pytest.mark.long
@pytest.mark.parametrize("words", [["sweep", "--kind", "heads,blocks"], ["importance", "--metric", "bi,taylor"], ["spans"]])
def test_two_devices(strata: Strata, tiny_folder: Path, prose: Path, tmp_path: Path, words: list[str]) -> None:
    """As processes, with the table of one; and again, when all is there."""
    given = [words[0], tiny_folder, *words[1:], "--corpus", prose, "--tokens", 40 * 32, "--window", 32]
    assert strata(*given, "--out", tmp_path / "one", "--device", "cpu").returncode == 0
    for _ in range(2):
        done = strata(*given, "--out", tmp_path / "two", "--device", "cpu,cpu")
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "two" / "summary.csv").read_bytes() == (tmp_path / "one" / "summary.csv").read_bytes()
    assert len(list((tmp_path / "two" / "scores").glob("shard-*-of-2.jsonl"))) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--shard", "5/4"], "--shard 5/4 does not exist: shards count from 0; give 0/4 to 3/4"),
        (["--shard", "slurm/4"], "SLURM_ARRAY_TASK_ID, which is not set"),
        (["--shard", "0/2", "--device", "cpu,cpu"], "a shard is of one device"),
        (["--device", "cpu,"], "names a device without a name"),
        (["--device", "cpu,cuda"], "torch sees no CUDA device"),
        (["--device", "cpu,warp"], "unknown device 'warp'"),
        (["--workers", "2"], "--workers is of Ray"),
        (["--control", "--shard", "0/2"], "--control takes its decisions on one device"),
        (["--control", "--device", "cpu,cpu"], "--control takes its decisions on one device"),
        (["--until-resolved", "0.1", "--shard", "0/2"], "--until-resolved takes its decisions over all documents"),
    ],
)
def test_commands_that_are_wrong(strata: Strata, sweep: list[object], tmp_path: Path, words: list[str], said: str) -> None:
    done = strata(*sweep, "--out", tmp_path / "out", *words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert said in done.stderr


def test_a_folder_that_cannot_be_written(strata: Strata, sweep: list[object], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = strata(*sweep, "--out", tmp_path / "file" / "run", "--shard", "0/2")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "Not a directory" in done.stderr


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed: apt-get install bubblewrap")
def test_a_disk_that_is_read_only(sweep: list[object], tmp_path: Path) -> None:
    """On a file system of its own, where even root cannot write."""
    here = [sys.executable, "-m", "reports.cli.main", *map(str, sweep), "--out", str(tmp_path / "run"), "--shard", "0/2"]
    words = ["bwrap", "--dev-bind", "/", "/", "--ro-bind", str(tmp_path), str(tmp_path), *here]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "Read-only file system; give another --out" in done.stderr


def test_a_folder_without_shards(strata: Strata, tmp_path: Path) -> None:
    done = strata("merge", tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        f"strata: {tmp_path} holds no shards: shards.json is missing, or of no command that has any\n",
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_scheduler_stops_a_shard(strata: Strata, prose: Path, tmp_path: Path, number: signal.Signals) -> None:
    """The batch at hand is dropped, what was scored is kept, and the code is not that of success."""
    out = tmp_path / "out"
    words = [
        "sweep",
        "zoo-llama-0",
        "--kind",
        "heads",
        "--corpus",
        prose,
        "--tokens",
        64 * 64,
        "--window",
        64,
        "--out",
        out,
        "--shard",
        "0/1",
    ]
    command = [sys.executable, "-m", "reports.cli.main", *map(str, words)]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)
    assert until(lambda: any(out.glob("scores/*.jsonl")) or process.poll() is not None, 60)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number, said
    assert said == f"strata: stopped; the scores so far are in {out}; rerun the command to resume\n"
    missing = strata("merge", out)
    assert missing.returncode == 2
    assert "of shard 0 of 1" in missing.stderr


def test_the_words_that_are_noted() -> None:
    words = ["sweep", "m", "--out", "a b", "--shard=1/2", "--device", "cpu,cpu", "--tokens", "4", "--json", "--kl"]
    assert noted_command(words) == ["sweep", "m", "--tokens", "4", "--kl"]


def test_a_job_script(strata: Strata, sweep: list[object], tmp_path: Path) -> None:
    """bash takes it, every word of the command is as it was given, and it holds as many tasks as there is work for."""
    out = tmp_path / "o 'ut"
    done = strata("slurm", "--tasks", 100, "--hours", 1.5, "--sbatch=--gres=gpu:1", "--", *sweep, "--dtype", "float32", "--out", out)
    assert done.returncode == 0, done.stderr
    script = tmp_path / "job.sh"
    script.write_text(done.stdout)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    options = [line.removeprefix("#SBATCH ") for line in done.stdout.splitlines() if line.startswith("#SBATCH ")]
    assert {"--array=0-47", "--time=90", "--requeue", "--gres=gpu:1", "--signal=B:USR1@120"} <= set(options)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("strata", "sbatch"):
        (programs / name).write_text(f'#!/bin/bash\nprintf "%s\\n" {name} "$@" >> {tmp_path}/calls\necho 4711\n')
        (programs / name).chmod(stat.S_IRWXU)
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
    environment.pop("SLURM_JOB_ID", None)
    submitted = subprocess.run(["bash", script, "--array=3"], env=environment, capture_output=True, text=True, check=False)
    assert submitted.returncode == 0, submitted.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[:4] == ["sbatch", "--parsable", "--array=3", str(script)]
    assert "--dependency=afterany:4711" in calls
    wrap = next(call for call in calls if call.startswith("--wrap=")).removeprefix("--wrap=")
    assert shlex.split(wrap) == ["strata", "merge", str(out)]
    (tmp_path / "calls").unlink()
    task = subprocess.run(["bash", script], env=environment | {"SLURM_JOB_ID": "1"}, capture_output=True, text=True, check=False)
    assert task.returncode == 0, task.stderr
    words = [*map(str, sweep), "--dtype", "float32", "--out", str(out), "--shard", "slurm/48"]
    assert (tmp_path / "calls").read_text().splitlines() == ["strata", *words]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--", "prune", "m"], "strata prune has no shards: give sweep, importance, spans, evaluate, generate behind --"),
        (["--", "spans", "m"], "--out is missing: name a folder on a disk that all machines share"),
        (["--", "spans", "m", "--out", "x", "--shard", "0/2"], "leave out --shard"),
        (["--sbatch", "--gres=gpu:1\n#SBATCH --wrap=x", "--", "spans", "m", "--out", "x"], "is no option of sbatch"),
        (["--sbatch", "rm", "--", "spans", "m", "--out", "x"], "is no option of sbatch"),
    ],
)
def test_scripts_that_are_not_made(strata: Strata, words: list[str], said: str) -> None:
    done = strata("slurm", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert said in done.stderr
