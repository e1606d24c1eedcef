"""Every `strata` and `papermill` command of the pages is one: its options exist, and its choices are valid. Nothing is run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from adapters.registry import DTYPES
from analysis.engine.ablations import KINDS
from analysis.tasks.index import names as task_names
from reports.cli import names
from reports.cli.main import _app
from reports.cli.options import ALIASES
from reports.cli.stopping import Stopping
from reports.execute import parameters_of

ROOT = Path(__file__).parents[1]
PAGES = [path for pattern in ("*.md", "docs/*.md", "reports/*.md", "adapters/zoo/*.md") for path in sorted(ROOT.glob(pattern))]
OWN = {"overlap"}  # a metric that docs/python.md registers
CHOICES = {  # by parameter of the command; several are separated by commas
    "kind": {*KINDS, *ALIASES},
    "by": {*names.ORDERS, *names.METRICS, *names.EXPERT_METRICS},
    "metric": {*names.METRICS, *names.EXPERT_METRICS, "all", *OWN},
    "method": {*names.REWRITING, *names.IN_MEMORY},
    "size": {"quick", "full"},
    "edit": {"zero", "mean"},
    "cut": {"auto", "delete", "zero"},
    "weights": {"auto", "resident", "streamed"},
    "dtype": {"auto", "mixed", *DTYPES},
}


def commands(page: str) -> Iterator[str]:
    """Lines of code, fenced or indented, and code within lines, without what a shell takes from them."""
    fenced = re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL)
    indented = re.findall(r"^    (?=strata |papermill )(.*)$", page, flags=re.MULTILINE)
    lines = "\n".join([*fenced, *indented]).replace("\\\n", " ").splitlines()
    inline = re.findall(r"`((?:strata|papermill) [^`]+)`", re.sub(r"```.*?```", "", page, flags=re.DOTALL))
    for line in [*lines, *(" ".join(code.split()) for code in inline)]:
        if line.startswith(("strata ", "papermill ")):
            yield line


@cache
def app() -> Any:
    return get_command(_app(Stopping()))  # type: ignore[arg-type]


def parsed(words: list[str]) -> dict[str, Any]:
    """What a command gets; one that is named alone gets nothing, and a mention that leaves out the model is of `MODEL`.

    Raises a usage error of the command line.
    """
    command, rest = app(), words
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"there is no command {rest[0]}"
        command, *rest = command.commands[rest[0]], *rest[1:]
    if not rest or rest == ["--help"]:
        return {}
    first = next(iter(command.params))
    if first.param_type_name == "argument" and first.required and rest[0].startswith("-"):
        rest = ["MODEL", *rest]
    try:
        return dict(command.make_context(command.name, list(rest)).params)
    except Exception as error:
        if rest[-1].startswith("--") and "requires an argument" in str(getattr(error, "message", "")):  # it is named without its value
            return {}
        raise


def check(line: str) -> None:
    words = shlex.split(line, comments=True)
    program, *words = words[: next((i for i, word in enumerate(words) if word in (">", "|", "&&")), None)]
    if program == "papermill":
        (notebook, _), options = words[:2], words[2:]
        given = [options[i + 1] for i, word in enumerate(options) if word == "-p"]
        assert {*given} <= parameters_of(ROOT / notebook.replace("NAME", "depth")).keys(), line
        return
    if "--" in words:  # a command for Slurm
        check(shlex.join(["strata", *words[words.index("--") + 1 :]]))
    for name, value in parsed(words).items():
        if name in CHOICES and isinstance(value, str):
            assert {word.strip() for word in value.split(",")} <= CHOICES[name], f"{line}: {name} {value}"
        if name == "task" and value:
            assert value in task_names(), f"{line}: {value}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_are_those_of_the_command_line(page: Path) -> None:
    for line in commands(page.read_text(encoding="utf-8")):
        try:
            check(line)
        except Exception as error:
            raise AssertionError(f"{line}: {getattr(error, 'message', error)}") from error


def test_most_commands_are_found() -> None:
    found = [line for page in PAGES for line in commands(page.read_text(encoding="utf-8"))]
    assert len(found) > 80


@pytest.mark.parametrize(
    "line",
    [
        "strata swep smollm2",
        "strata sweep smollm2 --kinds blocks",
        "strata sweep smollm2 --kind block",
        "strata sweep smollm2 --tokens many",
        "strata prune smollm2 --by nothing",
        "strata slurm -- sweep smollm2 --window 1",
        "strata evaluate smollm2 --task no_such_task",
        "papermill notebooks/depth.ipynb out.ipynb -p layers 3",
    ],
)
def test_mistakes_are_seen(line: str) -> None:
    with pytest.raises(Exception, match=r"."):
        check(line)
