"""Ctrl-C at different moments of real processes: one line, exit code 130, and what is said to be kept is there."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapters.checkpoints.folders import OURS

ROOT = Path(__file__).parents[3]
NOTHING = "strata: stopped; nothing was saved; rerun the command to start again\n"
# A command whose steps can be waited for. Arguments: what happens at Ctrl-C, folder
STEPS = """
import sys, time
from pathlib import Path
from reports.cli.stopping import Stopping

def run(out):
    out.mkdir()
    if "scored" in sys.argv[1]:
        (out / "scores").mkdir()
        (out / "scores" / "a.jsonl").touch()
    if "late" in sys.argv[1]:
        import swallows
    print("begun", flush=True)
    try:
        time.sleep(100)
    except KeyboardInterrupt:
        if "exit" in sys.argv[1]:
            sys.exit(130)
        if "error" in sys.argv[1]:
            raise ImportError("what a library makes of an interrupt")
        raise

with Stopping() as stopping:
    if "early" in sys.argv[1]:
        import swallows
    stopping.command(run)(out=Path(sys.argv[2]))
"""


SWALLOWS = """
import time
print("imports", flush=True)
try:
    time.sleep(100)
except BaseException:
    pass
"""


@contextmanager
def running(*command: object) -> Iterator[subprocess.Popen]:
    """A process with its own pipes, which does not outlive the test."""
    process = subprocess.Popen([sys.executable, *map(str, command)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def stop(process: subprocess.Popen, moment: Callable[[], object] = lambda: True) -> tuple[int, str]:
    """Sends SIGINT at the moment: the exit code, and what stands on stderr."""
    while process.poll() is None and not moment():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    return process.returncode, stderr


@pytest.mark.parametrize("how", ["early", "late", "late, scored", "plain", "exit", "error", "scored", "scored, error"])
def test_one_line_says_what_is_kept(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "swallows.py").write_text(SWALLOWS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with running("-c", STEPS, how, tmp_path / "o\x1but") as process:
        assert process.stdout
        process.stdout.readline()
        code, said = stop(process)
    kept = f"strata: stopped; the scores so far are in {tmp_path}/o\\x1but; rerun the command to resume\n"
    assert (code, said) == (130, kept if "scored" in how else NOTHING)


def test_an_interrupt_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """As a shell starts what runs in the background."""
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + STEPS.replace("100", "1")
    with running("-c", code, "plain", tmp_path / "out") as process:
        assert process.stdout
        process.stdout.readline()
        assert stop(process) == (0, "")


@pytest.mark.parametrize("wait", [0.2, 1.0])
def test_while_modules_are_imported(wait: float, tmp_path: Path) -> None:
    with running("-m", "reports.cli.main", "sweep", "zoo-llama-0", "--out", tmp_path / "out") as process:
        time.sleep(wait)
        code, said = stop(process)
    assert (code, said) == (130, NOTHING) or code == -signal.SIGINT, "Python itself has not begun yet"


@pytest.mark.long
@pytest.mark.parametrize("command", ["sweep", "importance", "report"])
def test_what_is_scored_is_kept(command: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = {"sweep": ["--kind", "heads", "--tokens", 8192], "importance": ["--tokens", 65536], "report": ["--only", "depth"]}[command]
    with running("-m", "reports.cli.main", command, "zoo-llama-0", *words, "--out", out) as process:
        code, said = stop(process, lambda: any(path.stat().st_size for path in out.rglob("*.jsonl")))
    assert code == 130
    line = f"strata: stopped; the scores so far are in {out}; rerun the command to resume"
    assert said.splitlines()[-1] == line
    assert not [one for one in said.splitlines() if one != line and not one.startswith(("zoo-llama-0, depth: ", "loading zoo-llama-0"))]


@pytest.mark.long
def test_a_checkpoint_that_is_being_written_leaves_nothing(tmp_path: Path) -> None:
    with running("-m", "reports.cli.main", "prune", "zoo-llama-0", "--remove", 2, "--out", tmp_path / "out") as process:
        code, said = stop(process, lambda: any(tmp_path.glob(f"{OURS}*/out/model.safetensors")))
    assert (code, said.splitlines()[-1:]) == (130, [NOTHING.strip()])
    assert not list(tmp_path.iterdir())
