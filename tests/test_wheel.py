"""The wheel works where the checkout is not: it holds the zoo, tasks, templates and notebooks, and nothing that was made."""

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not all(map(importlib.util.find_spec, ("pip", "setuptools"))), reason="needs pip and setuptools"),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the files of the checkout that git knows or would add."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            copy = folder / "source" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((ROOT / name).read_bytes())
    subprocess.run([*PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, folder / "source"], check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([*PIP, "install", "--no-deps", "--no-index", "--target", folder, wheel], check=True)
    return folder


def strata(installed: Path, cwd: Path, *words: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "reports.cli.main", *map(str, words)],
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(installed)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_holds_what_the_commands_need_and_no_output(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert {"adapters", "analysis", "notebooks", "reports"} <= tops <= {"adapters", "analysis", "notebooks", "reports", "strata.py"}
    for folder, pattern in (("adapters/zoo", "*.safetensors"), ("analysis/tasks/own", "*.yaml"), ("notebooks", "*.ipynb")):
        assert {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob(pattern)} <= set(names)
    assert {"reports/template.typ", "reports/template.html", "reports/style.css", "reports/page.js", "reports/explorer.js"} <= set(names)
    assert not [name for name in names if name.startswith(("reports/out", "reports/gallery", "tests"))]


def test_sweep_and_report_run_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("".join(f"Line {i}: {i} times {i} is {i * i}.\n" for i in range(6000)))
    code = "import adapters, analysis, reports; print(adapters.__file__, analysis.__file__, reports.__file__)"
    where = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(installed)}, capture_output=True, text=True
    ).stdout
    assert where.count(str(installed)) == 3, where
    strata(installed, tmp_path, "sweep", "zoo-llama-0", "--corpus", text, "--tokens", 96, "--window", 32, "--out", "swept")
    assert len((tmp_path / "swept" / "summary.csv").read_text().splitlines()) > 12
    strata(installed, tmp_path, "report", "zoo-llama-0", "--only", "depth", "--corpus", text, "--documents", 3, "--out", "made")
    assert (tmp_path / "made" / "report.pdf").read_bytes().startswith(b"%PDF")
    assert "zoo-llama-0" in (tmp_path / "made" / "report.html").read_text()
