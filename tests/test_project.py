"""What the files of the project promise of each other: versions, folders that import others, notebooks, paths."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def requirements(lines: Iterable[str]) -> list[Requirement]:
    """Of others: those of this project's own extras stand where they are declared."""
    return [r for r in map(Requirement, lines) if r.name != PROJECT["name"]]


REQUIREMENTS = requirements(
    [*PROJECT["dependencies"], *(line for name in ("notebooks", "tasks", "quantize", "docs", "dev") for line in EXTRAS[name])]
)
BARE = ("torch", "transformers", "safetensors", "numpy")  # all that a bare GPU machine has, with what these require
RUNS_BARE = [*ROOT.glob("adapters/**/*.py"), *ROOT.glob("analysis/engine/*.py")]
PROOF = [path for path in ROOT.glob("tests/gpu/*.py") if not path.name.startswith("test_")]  # `make gpu`, on such a machine
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))


def modules(files: list[Path]) -> list[str]:
    return [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files]


def imports(path: Path, *, everywhere: bool = True) -> set[str]:
    """Top-level names of what a file imports; without `everywhere` only what runs when the file is imported."""

    def statements(node: ast.AST) -> Iterator[ast.AST]:
        yield node
        lazy = isinstance(node, ast.FunctionDef | ast.Lambda) or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        if everywhere or not lazy:
            for child in ast.iter_child_nodes(node):
                yield from statements(child)

    found = set()
    for node in statements(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return {name.split(".")[0] for name in found}


def closure(names: tuple[str, ...]) -> set[str]:
    """Installed distributions that the named ones require, themselves included."""
    found, waiting = set(), list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found:
            found.add(name)
            wanted = map(Requirement, distribution(name).requires or ())
            waiting += [r.name for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


def test_constraints_pin_every_requirement_within_its_range():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    for requirement in REQUIREMENTS:
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, requirement
    assert not [version for version in pins.values() if "+" in version]


def test_conda_environment_has_the_same_requirements():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert f"python{PROJECT['requires-python']}" in conda
    assert [Requirement(line) for line in conda[-1]["pip"] if not line.startswith("-")] == REQUIREMENTS


def test_bare_machine_imports_adapters_and_sweep():
    has = closure(BARE)
    ours = {path.name for path in ROOT.iterdir() if path.is_dir()}
    missing = [m for m, owners in packages_distributions().items() if m not in ours and not has & set(map(canonicalize_name, owners))]
    assert {"pandas", "scipy", "seaborn", "papermill"} <= set(missing)
    hide = f"import sys, importlib; sys.modules.update(dict.fromkeys({missing}))"  # None in there: not found
    code = f"{hide}\nfor name in {modules([*RUNS_BARE, *PROOF])}: importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_bare_modules_name_nothing_else_when_imported():
    allowed = {*sys.stdlib_module_names, *BARE, "adapters", "analysis"}
    assert {path.name: left for path in RUNS_BARE if (left := imports(path, everywhere=False) - allowed)} == {}


@pytest.mark.parametrize(("folder", "forbidden"), [("adapters", {"analysis", "reports"}), ("analysis", {"reports"})])
def test_folders_import_downwards_only(folder, forbidden):
    assert {path.name: found for path in ROOT.glob(f"{folder}/**/*.py") if (found := imports(path) & forbidden)} == {}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_thin_and_clean(path):
    cells = nbformat.read(path, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert len([cell for cell in code if "parameters" in cell.metadata.get("tags", ())]) == 1
    assert not [cell.id for cell in code if cell.outputs or cell.execution_count]
    assert max(len(cell.source.splitlines()) for cell in cells) <= 25


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_no_file_names_a_place_of_one_machine_or_registry():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    folders, hosts = ("home", "root", "work", "Users"), (r"pypi\.", r"pythonhosted\.", r"registry\.", r"repo\.")
    place = re.compile(rf"(?<![\w.~<}}])/(?:{'|'.join(folders)})/\w|https?://[\w.-]*(?:{'|'.join(hosts)})(?:org|com|io)".encode())
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.is_file():
            assert not place.findall(path.read_bytes()), name
