"""The rooms of the project and the direction of their imports: down this table, never up, and nowhere in a circle."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MACHINERY = (
    "stats",
    "paper",
    "display",
    "data",
    "engine",
    "runs",
    "metrics",
    "control",
    "removal",
    "tasks",
    "writing",
    "zoo",
    "checkpoints",
    "parameters",
)
NOTEBOOKS = (
    "depth",
    "importance",
    "width",
    "depth_vs_width",
    "pruning",
    "methods",
    "quantization",
    "comparison",
    "redundancy",
    "generation",
)  # a folder for each
FLOORS = (
    "adapters",
    *(f"analysis.{room}" for room in (*MACHINERY, *NOTEBOOKS, "verbs")),
    "strata",
    "reports",
    "reports.cli",
)  # from the ground up
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in ("adapters", "analysis", "reports")
    for path in ROOT.glob(f"{folder}/**/*.py")
} | {"strata": ROOT / "strata.py"}


def imports(path: Path) -> Iterator[str]:
    """Modules of the project that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        named = []
        if isinstance(node, ast.ImportFrom) and node.module:
            named = [f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in FILES else node.module for alias in node.names]
        elif isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        yield from (name for name in named if name in FILES)


ARROWS = {name: set(imports(path)) - {name} for name, path in FILES.items()}


def floor(module: str) -> int:
    """Of the innermost room that holds the module."""
    rooms = [i for i, room in enumerate(FLOORS) if f"{module}.".startswith(f"{room}.")]
    assert rooms, f"{module} lies in no room: add its room to FLOORS, above all that it imports"
    return max(rooms, key=lambda i: len(FLOORS[i]))


def test_imports_go_down() -> None:
    modules = [name for name in FILES if name != "analysis"]
    assert [f"{a} imports {b}" for a in modules for b in sorted(ARROWS[a]) if floor(b) > floor(a)] == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    TopologicalSorter(ARROWS).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("path", sorted(ROOT.glob("notebooks/*.ipynb")), ids=lambda path: path.stem)
def test_every_notebook_has_a_room_whose_study_makes_what_it_shows(path: Path) -> None:
    assert path.stem in NOTEBOOKS
    assert (ROOT / "analysis" / path.stem / "study.py").is_file()
    assert f"from analysis.{path.stem}.study import" in path.read_text()


@pytest.mark.parametrize("room", sorted({name for name, path in FILES.items() if path.name == "__init__.py"}))
def test_every_room_says_what_it_holds(room: str) -> None:
    assert ast.get_docstring(ast.parse(FILES[room].read_text())), f"{room}/__init__.py has no docstring"
