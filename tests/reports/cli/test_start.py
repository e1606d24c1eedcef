"""What needs no model starts without the libraries that models need."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
HEAVY = ("torch", "transformers", "pandas", "scipy", "matplotlib", "lm_eval", "rich")
CODE = f"""
import atexit, sys
atexit.register(lambda: print("HEAVY", sorted(set(sys.modules) & {set(HEAVY)})))
from reports.cli.main import main
main()
"""


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        ("--help", 0, "Measures how redundant a language model is"),
        ("--version", 0, "strata 0."),
        ("", 2, "Usage: strata"),
        ("models --json", 0, "smollm2"),
        ("models --supported --json", 0, "gpt_neox"),
        ("swep", 2, "No such command 'swep'"),
        ("sweep smollm2", 2, "--out is missing: name a folder for the run"),
        ("sweep --kinds blocks", 2, "No such option: --kinds"),
        ("importance --help", 0, "relative_magnitude"),
        ("prune smollm2 --by nothing --out x", 2, "unknown order 'nothing'"),
        ("report --help", 0, "--budget"),
        ("check --help", 0, "exit code is 1"),
        ("tasks --help", 0, "lm_eval"),
    ],
)
def test_no_heavy_library_is_imported(given: str, code: int, says: str) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, *given.split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert says in done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_layouts_of_task_files_are_in_the_help_that_asks_for_them() -> None:
    done = subprocess.run([sys.executable, "-m", "reports.cli.main", "tasks", "show", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert "A folder for --data holds" in done.stdout
    assert "hellaswag/" in done.stdout


@pytest.mark.parametrize(
    ("given", "found"),
    [({}, "5000 1"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None None"), ({"GOMP_SPINCOUNT": "0"}, "0 1")],
    ids=["", "policy", "count"],
)
def test_waiting_threads_soon_sleep_unless_something_else_was_said(given: dict[str, str], found: str) -> None:
    names = "GOMP_SPINCOUNT", "KMP_BLOCKTIME"
    code = f"import atexit, os\natexit.register(lambda: print(*map(os.environ.get, {names})))\nfrom reports.cli.main import main\nmain()"
    environment = {
        name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    } | given
    done = subprocess.run([sys.executable, "-c", code, "--version"], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-1] == found
