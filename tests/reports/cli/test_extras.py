"""What an installation without extras does, and what it says of the rest."""

import json
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.reference.models import save_reader
from tests.test_project import PROJECT, ROOT, closure, requirements

BASE = closure(tuple(requirement.name for requirement in requirements(PROJECT["dependencies"])))


@pytest.fixture(scope="module")
def hidden() -> list[str]:
    """Modules of distributions that the base does not bring."""
    ours = {path.name for path in ROOT.iterdir() if path.is_dir()} | {"strata"}
    owners = packages_distributions()
    return [m for m in owners if m not in ours and not BASE & set(map(canonicalize_name, owners[m]))]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    save_reader(folder / "model")
    (folder / "text.txt").write_text("".join(f"Line {i}: {i} times {i} is {i * i}.\n" for i in range(4000)))
    return folder


def strata(hidden: list[str], *words: object) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.modules.update(dict.fromkeys({hidden}))\nfrom reports.cli.main import main\nmain()"  # None: not found
    return subprocess.run([sys.executable, "-c", code, *map(str, words)], cwd=ROOT, capture_output=True, text=True)


def test_sweep_importance_and_prune_need_no_extra(hidden: list[str], model: Path, tmp_path: Path) -> None:
    assert {"lm_eval", "matplotlib", "papermill", "llmcompressor"} <= set(hidden)
    assert not {"torch", "pandas", "rwkv", "sentencepiece", "pyarrow"} & set(hidden)
    text = ("--corpus", model / "text.txt", "--tokens", 96, "--window", 32)
    for words in (("sweep", "--kind", "blocks"), ("importance",), ("prune", "--remove", 1)):
        done = strata(hidden, words[0], model / "model", *words[1:], *text, "--out", tmp_path / words[0])
        assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "prune" / "strata.json").read_text())["blocks"]["removed"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["tasks", "list"], "lm_eval is not installed: pip install 'llm-strata[tasks]'"),
        (["sweep", "MODEL", "--task", "piqa", "--out", "OUT"], "pip install 'llm-strata[tasks]'"),
        (["report", "MODEL", "--out", "OUT"], "pip install 'llm-strata[notebooks]'"),
    ],
)
def test_a_missing_extra_is_one_line(hidden: list[str], model: Path, tmp_path: Path, words: list[str], says: str) -> None:
    done = strata(hidden, *({"MODEL": str(model / "model"), "OUT": str(tmp_path / "out")}.get(word, word) for word in words))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("strata: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert says in done.stderr
