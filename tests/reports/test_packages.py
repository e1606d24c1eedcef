"""A package of another distribution with one of our names stops the program before it can do harm."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = "from reports.packages import require_own_packages; require_own_packages(); print('ours')"


def run(*first: Path) -> subprocess.CompletedProcess:
    paths = os.pathsep.join(map(str, (*first, ROOT)))
    return subprocess.run([sys.executable, "-P", "-c", CODE], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)


def test_our_own_packages_pass():
    assert run().stdout == "ours\n"


@pytest.mark.parametrize(("name", "file"), [("adapters", "adapters/__init__.py"), ("analysis", "analysis.py"), ("strata", "strata.py")])
def test_a_package_of_the_same_name_is_one_line(tmp_path, name, file):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("raise RuntimeError('imported')")
    done = run(tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"strata: the package '{name}' comes from {tmp_path / name}")
    assert done.stderr.count("\n") == 1
