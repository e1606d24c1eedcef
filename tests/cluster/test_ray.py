"""A real Ray, with several nodes on this machine: workers, nodes and drivers are killed, and the table is that of one process."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.slurm import until

pytestmark = pytest.mark.long
ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'llm-strata[ray]'")
ROOT = Path(__file__).parents[2]
KILLS = 20
FAST = {  # a node that is gone is noticed within seconds
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 3,
}


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def head() -> Iterator[Any]:
    """A cluster of a head without cores, where nothing runs."""
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "num_gpus": 0, "include_dashboard": False, "_system_config": FAST})
    try:
        yield found
    finally:
        found.shutdown()


@pytest.fixture
def cluster(head: Any) -> Any:
    """With two nodes of one core each."""
    head.nodes = [head.add_node(num_cpus=1, num_gpus=0) for _ in range(2)]
    return head


def command(prose: Path, *words: object) -> list[str]:
    sweep = ["sweep", "zoo-llama-0", "--kind", "heads", "--corpus", prose, "--tokens", 64 * 72, "--window", 64, "--device", "cpu"]
    return [sys.executable, "-m", "reports.cli.main", *map(str, [*sweep, *words])]


def score(prose: Path, out: Path, *words: object) -> bytes:
    """The table of a run to its end."""
    done = subprocess.run(command(prose, "--out", out, *words), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return (out / "summary.csv").read_bytes()


def workers() -> list[int]:
    """Processes of Ray's that are scoring."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::Worker.score"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("n", [2, 3])
def test_workers_of_this_machine(prose: Path, tmp_path: Path, n: int) -> None:
    one = score(prose, tmp_path / "one")
    assert score(prose, tmp_path / "ray", "--ray", "--workers", n) == one


def test_a_worker_and_a_node_are_lost(cluster: Any, prose: Path, tmp_path: Path) -> None:
    """Their units are scored by others; a node that comes later takes part."""
    out, one = tmp_path / "ray", score(prose, tmp_path / "one")
    process = subprocess.Popen(command(prose, "--out", out, "--ray", cluster.address, "--workers", 2), cwd=ROOT, stderr=subprocess.PIPE)
    assert until(lambda: bool(workers()) or process.poll() is not None, 180)
    os.kill(workers()[0], signal.SIGKILL)
    assert until(lambda: any(out.glob("scores/*.jsonl")), 120)
    cluster.remove_node(cluster.nodes.pop(), allow_graceful=False)
    cluster.nodes.append(cluster.add_node(num_cpus=1, num_gpus=0))
    assert process.wait(400) == 0, process.stderr and process.stderr.read()
    assert (out / "summary.csv").read_bytes() == one


def test_a_driver_is_killed_and_started_again(cluster: Any, prose: Path, tmp_path: Path) -> None:
    """What it had written stays; orphans write nothing."""
    out, one = tmp_path / "ray", score(prose, tmp_path / "one")
    words = command(prose, "--out", out, "--ray", cluster.address, "--workers", 2)
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        assert until(lambda: any(out.glob("scores/*.jsonl")), 240)
        process.kill()
    (kept,) = out.glob("scores/*.jsonl")
    before = kept.read_bytes()
    time.sleep(3)
    assert kept.read_bytes() == before
    assert score(prose, out, "--ray", cluster.address, "--workers", 2) == one
    assert kept.read_bytes().startswith(before)


def test_twenty_kills(cluster: Any, prose: Path, tmp_path: Path) -> None:
    """At random moments, of workers or of the driver; a run that is done before makes room for the next one."""
    one, chance, killed, runs = score(prose, tmp_path / "one"), random.Random(0), 0, 0
    while killed < KILLS:
        out, runs = tmp_path / f"ray {runs}", runs + 1
        killed += _disturbed(command(prose, "--out", out, "--ray", cluster.address, "--workers", 2), out, chance, KILLS - killed)
        assert (out / "summary.csv").read_bytes() == one


def _disturbed(words: list[str], out: Path, chance: random.Random, most: int) -> int:
    """Runs it to its end, again after each kill of the driver: the number of kills."""
    killed = 0
    while not (out / "summary.csv").exists():
        with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None:
                time.sleep(chance.uniform(0.2, 2))
                if killed < most and (found := workers()):
                    victim = process.pid if chance.random() < 0.2 else chance.choice(found)
                    try:
                        os.kill(victim, signal.SIGKILL)
                    except ProcessLookupError:
                        continue
                    killed += 1
    return killed


@contextmanager
def other_machine(address: str, *, without: Path, packages: Path) -> Iterator[None]:
    """A node of the cluster whose file system lacks a folder, and where `packages` are found before all others."""
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={address}", "--num-cpus=1", "--num-gpus=0", "--block"]
    box = ["bwrap", "--dev-bind", "/", "/", "--tmpfs", str(without), "--setenv", "PYTHONPATH", f"{packages}:{ROOT}"]
    node = subprocess.Popen([*box, *start], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(node.pid, signal.SIGTERM)
        node.wait(60)


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed: apt-get install bubblewrap")
@pytest.mark.parametrize("differs", ["model", "versions"])
def test_machines_that_differ(head: Any, prose: Path, tmp_path: Path, differs: str) -> None:
    """A model that only the driver can read, and another torch on the machine of the worker: one line, and no table."""
    model, packages, empty = tmp_path / "model", tmp_path / "packages", tmp_path / "empty"
    shutil.copytree(ROOT / "adapters" / "zoo" / "llama-0", model)
    empty.mkdir()
    if differs == "versions":
        (packages / "torch-0.1.dist-info").mkdir(parents=True)
        (packages / "torch-0.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 0.1\n")
    words = command(prose, "--out", tmp_path / "out", "--ray", head.address, "--workers", 1)
    words[words.index("zoo-llama-0")] = str(model)
    with other_machine(head.address, without=model if differs == "model" else empty, packages=packages):
        assert until(lambda: sum(node["Alive"] for node in head.global_state.node_table()) == 2, 300)
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    says = {"model": "must lie on a disk of all machines", "versions": "has torch 0.1, and this machine has"}
    assert says[differs] in done.stderr
    assert not (tmp_path / "out" / "summary.csv").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ray", "127.0.0.1:9"], "no Ray cluster answers at 127.0.0.1:9"),
        (["--ray", "ray://127.0.0.1:9"], "is no address of a cluster"),
        (["--ray", "--shard", "0/2"], "--shard and --ray both say who scores what"),
        (["--ray", "--workers", "2", "--until-resolved", "0.1"], "--until-resolved takes its decisions"),
    ],
)
def test_what_is_wrong_with_a_command(prose: Path, tmp_path: Path, words: list[str], said: str) -> None:
    done = subprocess.run(command(prose, "--out", tmp_path / "out", *words), cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert said in done.stderr
    assert not (tmp_path / "out").exists()
